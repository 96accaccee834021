"""Change a live position's exits: its levels, their closing orders and the native stop follow."""

from collections.abc import Collection
from decimal import Decimal
from uuid import UUID

import msgspec

from app.domain.exits import WAITS_FOR_NO_TARGET, check_exits, waits_for_no_target
from app.domain.level import LevelKind, LevelStatus, would_fire
from app.domain.money import plain
from app.domain.position import Position
from app.domain.refusals import Outcome
from app.domain.signal import Exits
from app.errors import Conflict, InvalidInput, Refused
from app.flows import protect
from app.flows.settle import arm
from app.ids import new_id
from app.resources import Connected, Resources
from app.store import books, levels, orders, positions, strategies
from app.store.db import Connection, store_errors, transaction


async def change_exits(
    resources: Resources, position_id: UUID, given: Exits, names: Collection[str], user_id: UUID
) -> UUID | None:
    """Put the named exits in place of the position's, or take them away where `given` has none; the others stay.

    Answers the change's id, in the position's events; None when there is no such position. Nothing is sent but the
    native stop, which moves at the exchange before the old one goes. Raises InvalidInput for exits that cannot hold,
    Conflict for a position that has ended or is being traded, and what a read of the venue raises.
    """
    with store_errors():
        found = await positions.get(resources.pool, position_id)
    if found is None:
        return None
    connected = await resources.venues.of(found.account_id)
    instrument = await connected.venue.instrument(found.symbol)
    price = (await connected.venue.quote(found.symbol)).last
    id = new_id()
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
        position = msgspec.structs.replace(position, exits=position.exits.changed(given, names))
        await _check(connection, position, given, names, price)
        await positions.set_exits(connection, position.id, position.exits)
        await arm(connection, resources, position, instrument, price=price)
        for level in await levels.of_position(connection, position.id):
            if level.status is LevelStatus.ARMED and would_fire(level, price, price):
                raise _fires_at_once(Outcome.STOP_WRONG_SIDE, level.kind, position, price)
        await positions.record(
            connection, "exits_changed", position_id=position.id, account_id=position.account_id,
            detail={"id": id, "user": user_id, "exits": {name: getattr(given, name) for name in names}},
        )  # fmt: skip
    await resources.bell.levels(position_id)
    await _move_native_stop(resources, connected, position)
    return id


async def _check(
    connection: Connection, position: Position, given: Exits, names: Collection[str], price: Decimal
) -> None:
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
            "ladder_begun",
            "a target of this position was reached already, so its ladder cannot be replaced: take it away with null, "
            "or close a part by hand",
            "take_profit",
        )
    if waits_for_no_target(position.exits):
        raise InvalidInput(Outcome.NO_SUCH_TARGET, WAITS_FOR_NO_TARGET, "break_even")
    wrong = check_exits(given, position.side, price, position.entry_price)
    if wrong is not None:
        field = "take_profit" if wrong is Outcome.TARGET_WRONG_SIDE else "stop_loss"
        raise _fires_at_once(wrong, field, position, price)


def _fires_at_once(code: Outcome, field: str, position: Position, price: Decimal) -> InvalidInput:
    return InvalidInput(
        code,
        f"an exit of this {position.side} would fire at once: the price is {plain(price)}, the entry was "
        f"{plain(position.entry_price)}",
        field,
    )


async def _ladder_begun(connection: Connection, position: Position) -> bool:
    """Whether a rung has fired: its share of the position as opened is gone, which another ladder cannot know."""
    return any(
        level.kind is LevelKind.TAKE_PROFIT and level.status in (LevelStatus.TRIGGERED, LevelStatus.DONE)
        for level in await levels.of_position(connection, position.id)
    )


async def _move_native_stop(resources: Resources, connected: Connected, position: Position) -> None:
    """The second line follows. Where the exits name none any more, the one that rests is taken away."""
    instrument = await connected.venue.instrument(position.symbol)
    if protect.wanted_stop(position, instrument) is not None:
        await protect.secure(resources, connected, position.id)
    elif position.native_stop is not None:
        try:
            await connected.venue.set_stop(position.symbol, position.side, None, hedge=position.hedge)
        except Refused as error:
            raise Conflict(f"the levels are changed; the stop at the exchange stays: {error.reason}") from None
        with store_errors():
            await positions.set_native_stop(resources.pool, position.id, None)
