"""The fire of one level: its close is sent once, then recorded and followed up until that has succeeded."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import msgspec

from app.domain.level import Level, LevelKind, would_fire
from app.domain.order import OrderStatus
from app.errors import LevelheadError
from app.flows import protect
from app.flows.orders import QUERY_LAG, Answer
from app.flows.protect import Close, Fired
from app.log import event
from app.resources import Connected, Resources
from app.store import levels
from app.store.db import store_errors
from app.store.levels import Armed

log = logging.getLogger("watcher")

RETRY_S = 0.5
ASK_TRIES = 3  # before a stop is sent although the venue cannot be asked
ASK_PAUSE_S = 0.3


async def fire(
    resources: Resources,
    connected: Connected,
    one: Armed,
    price: Decimal | None,
    trade_id: str | None,
    *,
    inherited_at: float | None,
    close: Close | None = None,
    on_sending: Callable[[], None] = lambda: None,
) -> bool:
    """Send the close that was committed with the level, and see it recorded. False: the level is armed no more, or
    elsewhere, and nothing was sent.

    `inherited_at` is when (monotonic) the level was taken over from another watcher; None: it was armed under our own
    lease, so nobody else can have sent it. `close` is what was made of it in the tick itself. `on_sending` is called if
    it has not left yet, when it leaves for the wire.
    """
    if inherited_at is not None and await _was_sent(resources, connected, one, inherited_at):
        before = Answer(status=OrderStatus.UNKNOWN, reason="sent by the watcher before this one")
        fired = Fired(armed=one, price=price, trade_id=trade_id, sent_at=resources.now(), answer=before)
    else:
        if inherited_at is not None and one.level.kind is LevelKind.TAKE_PROFIT:
            # The wait was long: the level may stand for another quantity by now, or for nothing any more, or elsewhere.
            current = await _as_armed_now(resources, one)
            if current is None or _moved_away(one.level, current.level, price):
                return False
            one = current
        if close is None or close.placing is None:
            on_sending()
        fired = await _send(resources, connected, one, price, trade_id, close)
        if inherited_at is not None and fired.answer.status in (OrderStatus.ABSENT, OrderStatus.REJECTED):
            # That is said of this sending, and the order may have been sent, and filled, before: the venue is asked.
            answer = msgspec.structs.replace(fired.answer, status=OrderStatus.UNKNOWN)
            fired = msgspec.structs.replace(fired, answer=answer)
    while True:
        try:
            await protect.follow_up(resources, connected, fired)
            return True
        except Exception as error:
            event(log, logging.ERROR, "fire not recorded yet", symbol=one.symbol, kind=one.level.kind,
                  error=repr(error))  # fmt: skip
            await asyncio.sleep(RETRY_S)
            with suppress(Exception):  # the account may have been changed, and its old adapter closed
                connected = await resources.venues.of(one.account_id)


async def _send(
    resources: Resources,
    connected: Connected,
    one: Armed,
    price: Decimal | None,
    trade_id: str | None,
    close: Close | None,
) -> Fired:
    try:
        return await protect.fire(resources, connected, one, price, trade_id, close)
    except Exception as error:
        # A bug, and perhaps one of after the send: the venue is asked, as after an answer that was lost.
        log.exception("the send of a close failed")
        answer = Answer(status=OrderStatus.UNKNOWN, reason=repr(error))
        return Fired(armed=one, price=price, trade_id=trade_id, sent_at=resources.now(), answer=answer)


async def _as_armed_now(resources: Resources, one: Armed) -> Armed | None:
    """The level as the tables have it; None when it is armed no more."""
    while True:
        try:
            with store_errors():
                armed = await levels.armed(resources.pool, one.level.position_id)
        except LevelheadError as error:
            event(log, logging.WARNING, "cannot read a crossed level", symbol=one.symbol, why=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            return next((found for found in armed if found.level.id == one.level.id), None)


def _moved_away(crossed: Level, now: Level, price: Decimal | None) -> bool:
    """Whether a target stands elsewhere than when it was crossed, and that price does not reach it there."""
    return price is not None and now.price != crossed.price and not would_fire(now, price, price)


async def _was_sent(resources: Resources, connected: Connected, one: Armed, inherited_at: float) -> bool:
    """Whether the former watcher sent this close a moment before it died, where the venue would take its id again.

    A stop closes all that is held, so a second one finds nothing to reduce: better sent twice than late. A take-profit
    would close its part twice: what the former one signed must be out of its receive window before absence is believed.
    """
    if connected.venue.traits.refuses_used_ids:
        return False
    can_wait = one.level.kind is LevelKind.TAKE_PROFIT
    window = timedelta(milliseconds=resources.settings.recv_window_ms) + QUERY_LAG
    tries = 0
    while True:
        tries += 1
        try:
            if await connected.venue.order(one.symbol, one.client_order_id) is not None:
                return True
        except Exception as error:
            event(log, logging.WARNING, "cannot ask whether a close was sent", symbol=one.symbol, why=repr(error))
            if not can_wait and tries >= ASK_TRIES:
                return False
        else:
            if not can_wait or time.monotonic() > inherited_at + window.total_seconds():
                return False
        await asyncio.sleep(ASK_PAUSE_S)
