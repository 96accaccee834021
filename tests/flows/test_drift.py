"""Differences between our positions and the exchange's: what heals, what a person is asked, what can be adopted."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.domain.drift import DriftKind
from app.domain.order import PositionSide, Side
from app.domain.position import FillOrigin
from app.domain.refusals import Outcome
from app.domain.signal import Exits, StopLoss
from app.errors import Conflict, InvalidInput, Refused, Transient
from app.flows import orders, reconcile
from app.flows.adopt import Adopted, Adoption, adopt
from app.flows.settle import settle
from app.ids import new_id
from app.store import strategies
from app.venues.base import OrderReport
from app.venues.binance.stops import _Job
from tests.support.house import House, at_once, both_roads

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
STOP = Exits(stop_loss=StopLoss(pct=D(1)))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences count at once, except where the test says otherwise."""
    at_once(monkeypatch, *DriftKind)
    monkeypatch.setattr(reconcile, "STOP_GRACE", timedelta(0))


async def look(house: House, memory: reconcile.Memory | None = None) -> None:
    memory = memory or reconcile.Memory()
    for _ in range(2):
        await reconcile.account(house.resources, house.account_id, memory)


async def drifts(house: House) -> list[tuple[str, str, str]]:
    return [(d["kind"], d["side"], d["status"]) for d in await house.rows("SELECT * FROM drifts ORDER BY seen_at")]


async def told(house: House) -> list[str]:
    kinds = [kind.value for kind in DriftKind]
    return [e["kind"] for e in await house.rows("SELECT kind FROM events WHERE kind = ANY($1) ORDER BY id", kinds)]


async def stops(house: House) -> list[Any]:
    connected = await house.resources.venues.of(house.account_id)
    return [(stop.side, stop.price) for stop in await connected.venue.resting_stops("BTCUSDT")]


async def take(house: House, *, exits: Exits = STOP, side: PositionSide | None = None) -> Adopted:
    strategy = await strategies.get(house.resources.pool, house.strategy)
    assert strategy is not None
    # A person takes longer to come than the exchange's list of positions to show what was traded.
    await house.rows("UPDATE fills SET recorded_at = recorded_at - interval '1 minute'")
    return await adopt(
        house.resources,
        Adoption(
            account_id=house.account_id, symbol="BTCUSDT", side=side, strategy=strategy, exits=exits, user_id=new_id()
        ),
    )


async def test_a_foreign_position_is_told_once_and_is_gone_when_it_is(each_house: House) -> None:
    house = each_house
    await house.by_hand("Sell", "0.02")
    await look(house)
    await look(house)
    assert await drifts(house) == [("foreign_position", "short", "needs_operator")]
    assert await told(house) == ["foreign_position"]
    await house.by_hand("Buy", "0.02")
    await look(house)
    assert await drifts(house) == [("foreign_position", "short", "gone")]
    assert await house.sent() == []


async def test_a_difference_has_to_last(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    await house.by_hand("Sell", "0.02")
    await look(house)
    assert await drifts(house) == []


async def test_an_unknown_size_asks_and_nothing_is_added_meanwhile(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG)
    await house.by_hand("Buy", "0.02")
    await look(house)
    assert await drifts(house) == [("size_differs", "long", "needs_operator")]
    outcome = await house.alert(symbol="BTCUSDT", action="add", size={"base": "0.01"})
    assert (outcome["status"], outcome["code"]) == ("refused", "drift"), outcome
    assert (await house.alert(symbol="BTCUSDT", action="close"))["code"] == "executed"
    assert await house.held() == ("long", "0.02"), "what a hand added is the hand's"


async def test_a_read_that_fails_ends_no_drift(house: House) -> None:
    await house.by_hand("Sell", "0.02")
    memory = reconcile.Memory()
    await look(house, memory)
    connected = await house.resources.venues.of(house.account_id)
    holdings = connected.venue.holdings

    async def unreachable() -> Any:
        raise Transient("connection refused")

    connected.venue.holdings = unreachable  # type: ignore[method-assign]
    with pytest.raises(Transient):
        await reconcile.account(house.resources, house.account_id, memory)
    connected.venue.holdings = holdings  # type: ignore[method-assign]
    assert await drifts(house) == [("foreign_position", "short", "needs_operator")]


async def test_a_missing_stop_is_put_back_and_said(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG)
    before = await stops(house)
    connected = await house.resources.venues.of(house.account_id)
    await connected.venue.set_stop("BTCUSDT", PositionSide.LONG, None, hedge=False)
    await look(house)
    assert await stops(house) == before
    assert await drifts(house) == [("missing_stop", "long", "healed")]
    position = await house.position()
    assert position is not None
    assert position.native_stop is not None


async def test_a_position_is_not_called_protected_while_its_stop_is_gone(house: House) -> None:
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)
    await connected.venue.set_stop("BTCUSDT", PositionSide.LONG, None, hedge=False)
    seen: list[Decimal | None] = []
    set_stop = connected.venue.set_stop

    async def watched(*args: Any, **kwargs: Any) -> None:
        position = await house.position()
        assert position is not None
        seen.append(position.native_stop)
        await set_stop(*args, **kwargs)

    connected.venue.set_stop = watched  # type: ignore[method-assign]
    await look(house)
    assert seen == [None]


async def test_a_stop_left_behind_by_an_ended_position_is_removed(each_house: House) -> None:
    """Whoever ended it died before it looked for leftovers. At Bybit a stop goes with its position."""
    house = each_house
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)
    resting_stops = connected.venue.resting_stops

    async def unreachable(symbol: str) -> Any:
        raise Transient("connection refused")

    connected.venue.resting_stops = unreachable  # type: ignore[method-assign]
    await house.alert(symbol="BTCUSDT", action="close")
    connected.venue.resting_stops = resting_stops  # type: ignore[method-assign]
    left = await stops(house)
    await look(house)
    assert await stops(house) == []
    assert await drifts(house) == [("orphan_stop", "long", "healed")] * len(left)


async def test_a_stop_left_behind_goes_also_while_the_other_side_is_held(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge of Binance's does not go with its position, and the next one is the other way round."""
    house = each_house
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)

    async def killed(*_: object) -> None:
        return

    async def unreachable(symbol: str) -> Any:
        raise Transient("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(_Job, "_clean", killed)
        await connected.venue.set_stop("BTCUSDT", PositionSide.LONG, D(58000), hedge=False, qty=D("0.01"))
        patch.setattr(connected.venue, "resting_stops", unreachable)
        await house.alert(**LONG | {"action": "reverse"})
    left = [side for side, _ in await stops(house) if side is PositionSide.LONG]
    assert len(left) == (not connected.venue.traits.attaches_stops)
    short = await house.last_position()
    await look(house)
    assert await stops(house) == [(PositionSide.SHORT, short.native_stop)]
    assert await drifts(house) == [("orphan_stop", "long", "healed")] * len(left)


async def test_what_ended_without_a_trace_is_closed_as_external(house: House) -> None:
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)

    async def none(*args: object, **kwargs: object) -> list[Any]:
        return []

    await house.by_hand("Sell", "0.01")
    connected.venue.fills = none  # type: ignore[method-assign]
    await look(house)
    assert (await house.last_position()).close_reason == "external"
    assert await drifts(house) == [("closed_outside", "long", "healed")]


async def test_of_a_position_that_was_turned_round_without_a_trace_nothing_is_left(house: House) -> None:
    """The exchange holds the other side: that is a stranger's, and ours has ended."""
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)

    async def none(*args: object, **kwargs: object) -> list[Any]:
        return []

    await house.by_hand("Sell", "0.03")
    connected.venue.fills = none  # type: ignore[method-assign]
    memory = reconcile.Memory()
    await look(house, memory)
    await look(house, memory)
    assert (await house.last_position()).close_reason == "external"
    assert await drifts(house) == [
        ("closed_outside", "long", "healed"),
        ("foreign_position", "short", "needs_operator"),
    ]


# Adoption


async def test_a_foreign_position_is_adopted_with_exits(each_house: House) -> None:
    house = each_house
    await house.by_hand("Buy", "0.02")
    await look(house)
    done = await take(house)
    position = await house.position()
    assert position is not None
    assert (position.id, position.side, position.qty, position.entry_price) == (
        done.position_id, PositionSide.LONG, D("0.02"), D(60000),
    )  # fmt: skip
    assert [side for side, _ in await stops(house)] == [PositionSide.LONG]
    assert await drifts(house) == [("foreign_position", "long", "adopted")]
    levels = await house.rows("SELECT kind, price, qty, status FROM levels")
    assert [(x["kind"], x["price"], x["qty"], x["status"]) for x in levels] == [
        ("stop_loss", D(59400), D("0.02"), "armed")
    ]
    await look(house)
    assert len(await drifts(house)) == 1
    assert (await house.alert(symbol="BTCUSDT", action="close"))["code"] == "executed"
    assert await house.held() == ("flat", "0")
    [row] = await house.rows("SELECT p.adopted_qty, (SELECT sum(qty) FROM fills WHERE position_id = p.id) AS closed "
                             "FROM positions p")  # fmt: skip
    assert row["adopted_qty"] == row["closed"] == D("0.02")


async def test_what_a_hand_added_is_adopted_with_the_position(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG)
    await house.price("60600")
    await house.by_hand("Buy", "0.01")
    await look(house)
    await take(house, exits=Exits())
    position = await house.position()
    assert position is not None
    assert (position.qty, position.entry_price, position.exits) == (D("0.02"), D(60300), STOP)
    await look(house)
    assert await drifts(house) == [("size_differs", "long", "adopted")]
    assert [row["qty"] for row in await house.rows("SELECT qty FROM levels WHERE status = 'armed'")] == [D("0.02")]


async def test_what_a_hand_sold_before_an_adoption_is_not_counted_when_it_is_listed_at_last(each_house: House) -> None:
    """It is in the quantity that the exchange showed, and was adopted."""
    house = each_house
    await house.alert(**LONG | {"size": {"base": "0.02"}})
    connected = await house.resources.venues.of(house.account_id)
    listed = connected.venue.fills

    async def none(*args: object, **kwargs: object) -> list[Any]:
        return []

    connected.venue.fills = none  # type: ignore[method-assign]
    await house.by_hand("Sell", "0.015")
    await take(house, exits=Exits())
    connected.venue.fills = listed  # type: ignore[method-assign]
    await look(house)
    await house.by_hand("Sell", "0.002")
    await look(house)
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.003"), "only the second counts"
    [armed] = await house.rows("SELECT qty FROM levels WHERE status = 'armed'")
    assert armed["qty"] == D("0.003")


async def test_a_close_of_ours_that_is_listed_after_an_adoption_is_not_counted_twice(house: House) -> None:
    """It had left, and nobody knew yet, when the exchange was asked for what is held."""
    await house.alert(**LONG | {"size": {"base": "0.02"}})
    [rung] = await house.rows("SELECT client_order_id FROM orders WHERE status = 'armed'")
    await house.by_hand("Sell", "0.015")
    connected = await house.resources.venues.of(house.account_id)
    listed = await connected.venue.fills("BTCUSDT", since=house.resources.now() - timedelta(minutes=1))
    sold = next(fill for fill in listed if fill.side is Side.SELL)
    await take(house, exits=Exits())
    ours = msgspec.structs.replace(sold, client_order_id=rung["client_order_id"], origin=FillOrigin.ORDER)
    await settle(house.resources, house.account_id, await connected.venue.instrument("BTCUSDT"), [ours])
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.005")


async def test_what_was_traded_a_moment_ago_is_not_adopted_yet(house: House) -> None:
    """The exchange's list of positions may lag behind, and show what was closed before."""
    await house.alert(**LONG)
    await house.by_hand("Buy", "0.02")
    strategy = await strategies.get(house.resources.pool, house.strategy)
    assert strategy is not None
    wanted = Adoption(account_id=house.account_id, symbol="BTCUSDT", side=None, strategy=strategy, exits=STOP,
                      user_id=new_id())  # fmt: skip
    with pytest.raises(Conflict) as refused:
        await adopt(house.resources, wanted)
    assert refused.value.kind == "busy"
    assert await take(house)


@pytest.mark.parametrize(
    ("exits", "code"),
    [(Exits(), "no_stop"), (Exits(stop_loss=StopLoss(price=D(61000))), "stop_wrong_side")],
)
async def test_nothing_is_adopted_without_a_stop_that_holds(house: House, exits: Exits, code: str) -> None:
    await house.by_hand("Buy", "0.02")
    with pytest.raises(InvalidInput) as refused:
        await take(house, exits=exits)
    assert refused.value.code == code
    assert await house.rows("SELECT 1 FROM positions") == []


async def test_nothing_is_adopted_twice_or_from_nothing(house: House) -> None:
    with pytest.raises(Conflict) as refused:
        await take(house)
    assert refused.value.kind == "nothing_held"
    await house.alert(**LONG)
    with pytest.raises(Conflict) as refused:
        await take(house)
    assert refused.value.kind == "already_managed"


async def test_a_book_that_is_worked_on_is_not_adopted_from(house: House) -> None:
    await house.by_hand("Buy", "0.02")
    await house.rows("INSERT INTO books (account_id, symbol, holder) VALUES ($1, 'BTCUSDT', $2)",
                     house.account_id, house.worker.id)  # fmt: skip
    with pytest.raises(Conflict) as refused:
        await take(house)
    assert refused.value.kind == "busy"


async def test_in_hedge_mode_the_side_is_named(hedge_house: House) -> None:
    house = hedge_house
    for side, position_side in (("Buy", "long"), ("Sell", "short")):
        await house._control(
            "POST", "positions",
            {"api_key": "house-key", "symbol": "BTCUSDT", "side": side, "qty": "0.02", "position_side": position_side},
        )  # fmt: skip
    with pytest.raises(InvalidInput):
        await take(house)
    await take(house, side=PositionSide.SHORT)
    position = await house.position(side="short")
    assert position is not None
    assert position.hedge
    assert [side for side, _ in await stops(house)] == [PositionSide.SHORT]


# Absence


@both_roads
async def test_an_opening_that_shows_in_the_position_is_not_absent(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange denies the order and lists no fill of it, and holds what it would have opened."""
    house = each_house
    monkeypatch.setattr(orders, "QUERY_LAG", timedelta(seconds=-5))
    connected = await house.resources.venues.of(house.account_id)
    venue, asked = connected.venue, 0
    order, fills = venue.order, venue.fills

    async def denied(symbol: str, client_order_id: str) -> OrderReport | None:
        nonlocal asked
        asked += 1
        return None if asked < 8 else await order(symbol, client_order_id)

    async def unlisted(*args: Any, **kwargs: Any) -> Any:
        return [] if asked < 8 else await fills(*args, **kwargs)

    venue.order, venue.fills = denied, unlisted  # type: ignore[method-assign]
    await house.fault("drop_answer", path="/v5/order/create")
    await house.fault("drop_answer", path="/fapi/v1/order")
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "executed", outcome
    assert asked >= 8
    assert len(await house.sent()) == 1


async def test_a_position_in_what_the_exchange_lists_no_more_ends(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was settled when the instrument was delisted; nothing that is asked by its name is answered any more."""
    house = each_house
    await house.alert(**LONG)
    await house.by_hand("Sell", "0.01")
    connected = await house.resources.venues.of(house.account_id)

    async def unknown(*args: object, **kwargs: object) -> Any:
        raise Refused(Outcome.UNKNOWN_SYMBOL, "there is no such symbol")

    for call in ("instrument", "fills", "standing", "resting_stops"):
        monkeypatch.setattr(connected.venue, call, unknown)
    memory = reconcile.Memory()
    await look(house, memory)
    assert (await house.last_position()).close_reason == "external"
    assert await drifts(house) == [("closed_outside", "long", "healed")]


async def test_an_account_whose_exchange_hangs_keeps_no_other_waiting(house: House) -> None:
    """Each one's exchange answers only when the other one was asked too."""
    other = await house.add_account("other", "binance")
    await house.add_strategy("both", [strategies.AccountShare(account_id=one) for one in (house.account_id, other)])
    await house.send(LONG, "both")
    await house.sweep()
    assert len(await house.rows("SELECT 1 FROM positions")) == 2
    asked: list[Any] = []
    all_asked = asyncio.Event()
    for account_id in (house.account_id, other):
        connected = await house.resources.venues.of(account_id)

        async def holdings(answer: Any = connected.venue.holdings) -> Any:
            asked.append(answer)
            if len(asked) == 2:
                all_asked.set()
            await all_asked.wait()
            return await answer()

        connected.venue.holdings = holdings  # type: ignore[method-assign]
    await asyncio.wait_for(reconcile.all_accounts(house.resources, reconcile.Memory()), 10)


async def test_a_fill_that_was_not_heard_of_is_found_although_this_machines_clock_is_ahead(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.alert(**LONG)
    venue = (await house.resources.venues.of(house.account_id)).venue
    ahead = timedelta(minutes=5)
    now = house.resources.now
    monkeypatch.setattr(house.resources, "now", lambda: now() + ahead)
    monkeypatch.setattr(type(venue), "clock_offset_ms", -ahead // timedelta(milliseconds=1))
    memory = reconcile.Memory()
    await look(house, memory)
    await house.price("60060")
    await house.by_hand("Sell", "0.01")
    await look(house, memory)
    position = await house.last_position()
    assert (position.qty, position.realized_pnl) == (D(0), D("0.6")), "by its fill, not for want of one"
    assert await drifts(house) == []
