"""What a feed believes of the trades that it is told, and of the prices that it asked for."""

import time
from decimal import Decimal

import pytest

from app.domain.level import TriggerBy
from app.venues.base import Quote, Trade
from tests.workers.test_feed import BTC, Followed
from workers.fidelity import LATE_MS

D = Decimal
T = 1_700_000_000_000


def followed_at_100() -> Followed:
    """A stop at 95; the last trade and the mark price are at 100."""
    followed = Followed()
    followed.stop(1, "95")
    followed.feed.on_mark(BTC, D(100), T)
    followed.trade("100", at_ms=T)
    return followed


def test_a_lone_jump_fires_nothing_and_a_second_source_is_asked() -> None:
    followed = followed_at_100()
    followed.trade("50", at_ms=T + 1)
    assert followed.held == [BTC]
    followed.trade("100", at_ms=T + 2)
    assert followed.fired == []
    assert followed.feed.prices[TriggerBy.LAST][BTC] == (D(100), T + 2)


def test_what_is_held_back_is_not_told_as_the_last_price_and_not_judged_up_to() -> None:
    followed = followed_at_100()
    followed.trade("50", at_ms=T + 1)
    assert followed.feed.prices[TriggerBy.LAST][BTC] == (D(100), T)
    assert followed.feed.judged_ms[BTC] == T
    assert followed.feed.silent(2.0) == {}, "and yet something was heard"


def test_the_mark_price_that_follows_confirms_it() -> None:
    followed = followed_at_100()
    followed.trade("90", at_ms=T + 1)
    followed.feed.on_mark(BTC, D(99), T + 2)
    assert followed.fired == []
    followed.feed.on_mark(BTC, D("90.5"), T + 3)
    assert followed.fired == [(1, D(90), "t90")]


def test_a_quote_confirms_it_or_denies_it() -> None:
    for quote, fires in (
        (Quote(last=D(90), mark=D(100), bid=D("89.9"), ask=D("90.1")), True),
        (Quote(last=D(90), mark=D(100), bid=D("99.9"), ask=D("100.1")), False),
    ):
        followed = followed_at_100()
        followed.trade("90", at_ms=T + 1)
        followed.feed.on_quote(BTC, quote, (), time.monotonic() + 1)
        assert bool(followed.fired) is fires
        assert not followed.feed.fidelity.holds(BTC)


def test_a_quote_that_was_asked_for_before_the_jump_says_nothing_about_it() -> None:
    followed = followed_at_100()
    asked_at = time.monotonic()
    followed.trade("90", at_ms=T + 1)
    followed.feed.on_quote(BTC, Quote(last=D(100), mark=D(100), bid=D(100), ask=D(100)), (), asked_at)
    assert followed.feed.fidelity.holds(BTC)


def test_a_crash_fires_with_its_third_trade_without_anybody_else() -> None:
    followed = followed_at_100()
    followed.trade("94", at_ms=T + 1)
    followed.trade("90", at_ms=T + 2)
    assert followed.fired == []
    followed.trade("85", at_ms=T + 3)
    assert followed.fired == [(1, D(94), "t94")]


def test_the_first_trade_of_a_symbol_has_to_be_near_its_mark_price() -> None:
    followed = Followed()
    followed.stop(1, "95")
    followed.feed.on_mark(BTC, D(100), T)
    followed.trade("50", at_ms=T)
    assert followed.fired == []
    assert followed.held == [BTC]


def test_the_first_trade_of_a_symbol_has_to_be_near_what_was_asked_for() -> None:
    followed = Followed()
    followed.stop(1, "95")
    followed.feed.on_asked(BTC, TriggerBy.LAST, D(100), time.monotonic())
    followed.trade("50", at_ms=T)
    assert followed.fired == []


def test_a_price_that_was_asked_for_and_jumps_needs_a_quote() -> None:
    followed = followed_at_100()
    later = time.monotonic() + 1
    assert not followed.feed.on_asked(BTC, TriggerBy.LAST, D(50), later)
    followed.quote(Quote(last=D(50), mark=D(100), bid=D("99.9"), ask=D("100.1")), TriggerBy.LAST)
    assert followed.fired == []
    assert BTC not in followed.feed.doubts
    followed.quote(Quote(last=D(50), mark=D(50), bid=D("49.9"), ask=D("50.1")), TriggerBy.LAST)
    assert followed.fired == [(1, D(50), None)]
    followed.trade("50.1", at_ms=T + 1)
    assert not followed.feed.fidelity.holds(BTC), "trades are compared with it from now on"


def test_a_trade_of_the_past_fires_nothing_and_is_no_sign_of_life() -> None:
    followed = followed_at_100()
    heard_at = followed.feed.heard[TriggerBy.LAST][BTC]
    followed.trade("98.9", "94.9", at_ms=T - LATE_MS - 1)
    assert followed.fired == []
    assert followed.feed.heard[TriggerBy.LAST][BTC] == heard_at
    assert followed.feed.prices[TriggerBy.LAST][BTC] == (D(100), T)


def test_a_trade_a_little_out_of_order_counts() -> None:
    followed = followed_at_100()
    followed.trade("98.2", "96.4", "94.9", at_ms=T - LATE_MS)
    assert followed.fired == [(1, D("94.9"), "t94.9")]


def test_of_a_frame_only_the_trades_of_the_past_are_left_out() -> None:
    followed = followed_at_100()
    ages = (("98.5", 1), ("96.8", 2), ("95", -5000), ("97", 3))
    followed.feed.on_trades([Trade(symbol=BTC, trade_id=p, price=D(p), at_ms=T + ms) for p, ms in ages])
    assert followed.fired == []
    assert followed.feed.prices[TriggerBy.LAST][BTC] == (D(97), T + 3)


def test_one_trade_from_the_future_does_not_silence_the_present() -> None:
    followed = Followed()
    followed.stop(1, "95")
    now_ms = int(time.time() * 1000)
    followed.trade("96", at_ms=now_ms + 3_600_000)
    followed.trade("95", at_ms=now_ms)
    assert followed.fired == [(1, D(95), "t95")]


@pytest.mark.parametrize("down", [True, False])
def test_what_was_held_back_when_the_judging_stops_is_left_to_the_inspection(down: bool) -> None:
    followed = followed_at_100()
    followed.feed.end_gap()
    followed.trade("90", at_ms=T + 1)
    if down:
        followed.feed.on_link(False)
    else:
        followed.leased = False
        followed.trade("100", at_ms=T + 2)
    assert not followed.feed.fidelity.holds(BTC)
    assert followed.feed.end_gap().judged_ms == {BTC: T}
