"""Change a live position's exits: its levels, their closing orders and the native stop follow.

A person does so by the API, while nobody trades the book; an alert does so when its turn in the book has come.
"""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from app.domain.decide import too_old
from app.domain.exits import check_exits, check_together
from app.domain.instrument import Instrument
from app.domain.level import LevelKind, LevelStatus, TriggerBy, would_fire
from app.domain.money import plain
from app.domain.position import Position, PositionStatus
from app.domain.refusals import Outcome, Refusal
from app.domain.sequence import place
from app.domain.signal import Exits
from app.errors import Conflict, InvalidInput, Refused
from app.flows import protect
from app.flows.legs import NotYet
from app.flows.settle import arm
from app.ids import new_id
from app.resources import Connected, Resources
from app.store import books, inbox, levels, orders, positions, strategies
from app.store.db import Connection, store_errors, transaction
from app.store.inbox import CauseKind, Instruction
from app.venues.base import Quote


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The named exits take the place of the position's, or are taken away where `exits` has none; the others stay."""

    id: UUID
    exits: Exits
    names: Collection[str]
    by: dict[str, object]  # who wants it, for the position's events


async def change_exits(
    resources: Resources, position_id: UUID, given: Exits, names: Collection[str], user_id: UUID
) -> UUID | None:
    """A person's change. Answers its id, in the position's events; None when there is no such position.

    Nothing is sent but the native stop, which moves at the exchange before the old one goes. Raises InvalidInput for
    exits that cannot hold, Conflict for a position that has ended or is being traded, and what a read of the venue
    raises.
    """
    with store_errors():
        found = await positions.get(resources.pool, position_id)
    if found is None:
        return None
    connected = await resources.venues.of(found.account_id)
    instrument = await connected.venue.instrument(found.symbol)
    quote = await connected.venue.quote(found.symbol)
    at = connected.there(resources.now())
    change = Change(id=new_id(), exits=given, names=names, by={"user": user_id})
    async with transaction(resources.pool) as connection:
        await books.lock(connection, found.account_id, found.symbol)
        if await books.is_claimed(connection, found.account_id, found.symbol) or await orders.opening_in_flight(
            connection, found.account_id, found.symbol, found.side
        ):  # what is being added brings its own exits
            raise Conflict(f"{found.symbol} is being traded right now: try again in a moment", kind="busy")
        live = await positions.live_for_update(connection, found.account_id, found.symbol)
        position = next((one for one in live if one.id == position_id), None)
        if position is None:
            raise Conflict("this position is closed already", kind="already_closed")
        position = await _apply(connection, resources, position, change, instrument, quote, at)
    await resources.bell.levels(position_id)
    stays = await _move_native_stop(resources, connected, position)
    if stays is not None:
        raise Conflict(f"the levels are changed; {stays}")
    return change.id


async def carry_out(resources: Resources, connected: Connected, instruction: Instruction) -> Refusal | str:
    """An alert's change, with the book claimed: why it is refused, or what was done. May be repeated.

    Raises NotYet while an opening of the book is not resolved, and what a read of the venue raises.
    """
    pool, signal = resources.pool, instruction.request
    change = Change(
        id=instruction.id,
        exits=signal.exits,
        names=signal.names,
        by={str(instruction.cause_kind): instruction.cause_id},
    )
    with store_errors():
        held = await positions.live(pool, instruction.account_id, signal.symbol)
        changed = [one for one in held if await positions.was_changed(pool, one.id, change.id)]
    if not changed:
        position = await _meant(resources, instruction, held)
        if not isinstance(position, Position):
            return position
        instrument = await connected.venue.instrument(signal.symbol)
        quote = await connected.venue.quote(signal.symbol)
        at = connected.there(resources.now())
        try:
            async with transaction(pool) as connection:
                await books.lock(connection, position.account_id, position.symbol)
                live = await positions.live_for_update(connection, position.account_id, position.symbol)
                current = next((one for one in live if one.id == position.id), None)
                if current is None:
                    return NOTHING_HELD
                changed = [await _apply(connection, resources, current, change, instrument, quote, at)]
        except InvalidInput as error:
            return Refusal(code=Outcome(error.code), reason=error.detail)
        await resources.bell.levels(position.id)
    stays = await _move_native_stop(resources, connected, changed[0])
    return f"changed {', '.join(change.names)}" + ("" if stays is None else f"; {stays}")


NOTHING_HELD = "nothing is held whose exits could be changed"


async def _meant(resources: Resources, instruction: Instruction, held: list[Position]) -> Position | Refusal | str:
    """The position that an alert means, why it may not change it, or why there is nothing to change."""
    pool, signal = resources.pool, instruction.request
    with store_errors():
        neighbours = await inbox.neighbours(pool, instruction) if instruction.cause_kind is CauseKind.ALERT else []
        strategy = await strategies.get(pool, instruction.strategy_id)
    if strategy is None or not strategy.enabled:
        return Refusal(code=Outcome.STRATEGY_DISABLED, reason=f"strategy {instruction.strategy_id} is disabled")
    refused = place(signal, neighbours) or too_old(signal, instruction.received_at, resources.now())
    if refused is not None:
        return refused
    ours = [one for one in held if one.strategy_id == instruction.strategy_id]
    if not ours and held:
        return Refusal(
            code=Outcome.OTHER_STRATEGY,
            reason=f"the {held[0].side} {signal.symbol} of this account is held by strategy {held[0].strategy_id}",
        )
    if len(ours) > 1:
        return Refusal(
            code=Outcome.AMBIGUOUS_SIDE,
            reason=f"both a long and a short of {signal.symbol} are held, and set_exits names no side: change them on "
            "their own, by the API",
        )
    with store_errors():
        if any([await orders.opening_in_flight(pool, one.account_id, one.symbol, one.side) for one in ours]):
            raise NotYet("what is being added brings its own exits", 0.5)
    if not ours or ours[0].status is PositionStatus.CLOSING:
        return NOTHING_HELD
    return ours[0]


async def _apply(
    connection: Connection,
    resources: Resources,
    position: Position,
    change: Change,
    instrument: Instrument,
    quote: Quote,
    at: datetime,
) -> Position:
    """Inside the transaction that has the book locked. `at` is when the quote was told, in the exchange's time.

    Raises InvalidInput for exits that cannot hold.
    """
    position = msgspec.structs.replace(position, exits=position.exits.changed(change.exits, change.names))
    await _check(connection, position, change.exits, quote.last)
    await positions.set_exits(connection, position.id, position.exits)
    await arm(connection, resources, position, instrument, at=at, price=quote.last)
    prices = {TriggerBy.MARK: quote.mark, TriggerBy.BID: quote.bid, TriggerBy.ASK: quote.ask}
    for level in await levels.of_position(connection, position.id):
        price = prices.get(level.trigger_by) or quote.last
        if level.status is LevelStatus.ARMED and would_fire(level, price, price):
            raise _fires_at_once(level.kind, position, price)
    await positions.record(
        connection, "exits_changed", position_id=position.id, account_id=position.account_id,
        detail={"id": change.id, **change.by, "exits": {name: getattr(change.exits, name) for name in change.names}},
    )  # fmt: skip
    return position


async def _check(connection: Connection, position: Position, given: Exits, price: Decimal) -> None:
    if not position.exits.names_a_stop:
        strategy = await strategies.get(connection, position.strategy_id)
        if strategy is None or not strategy.limits.trade_without_stop:
            raise InvalidInput(
                Outcome.NO_STOP,
                "this would leave the position without a stop: name another one, or allow the strategy to "
                "trade_without_stop",
                "stop_loss",
            )
    if given.take_profit and await _ladder_begun(connection, position):
        raise InvalidInput(
            Outcome.LADDER_BEGUN,
            "a target of this position was reached already, so its ladder cannot be replaced: take it away with null, "
            "or close a part by hand",
            "take_profit",
        )
    entry = position.entry_price
    wrong = check_exits(given, position.side, price, entry) or check_together(position.exits, position.side, entry)
    if wrong is not None:
        raise InvalidInput(wrong.code, wrong.reason, _FIELD.get(wrong.code))


_FIELD = {Outcome.STOP_WRONG_SIDE: "stop_loss", Outcome.TARGET_WRONG_SIDE: "take_profit"}


def _fires_at_once(kind: LevelKind, position: Position, price: Decimal) -> InvalidInput:
    return InvalidInput(
        Outcome.STOP_WRONG_SIDE,
        f"the {kind} of this {position.side} would fire at once: the price is {plain(price)}, the entry was "
        f"{plain(position.entry_price)}",
        kind,
    )


async def _ladder_begun(connection: Connection, position: Position) -> bool:
    """Whether a rung has fired: its share of the position as opened is gone, which another ladder cannot know."""
    return any(
        level.kind is LevelKind.TAKE_PROFIT and level.status in (LevelStatus.TRIGGERED, LevelStatus.DONE)
        for level in await levels.of_position(connection, position.id)
    )


async def _move_native_stop(resources: Resources, connected: Connected, position: Position) -> str | None:
    """The second line follows. Where the exits name none any more, the one that rests is taken away.

    Answers why it stays, if it does.
    """
    instrument = await connected.venue.instrument(position.symbol)
    if protect.wanted_stop(position, instrument) is not None:
        await protect.secure(resources, connected, position.id)
    elif position.native_stop is not None:
        try:
            await connected.venue.set_stop(position.symbol, position.side, None, hedge=position.hedge)
        except Refused as error:
            return f"the stop at the exchange stays: {error.reason}"
        with store_errors():
            await positions.set_native_stop(resources.pool, position.id, None)
    return None
