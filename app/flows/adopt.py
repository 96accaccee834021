"""Take a position under management that somebody else opened, with exits of ours; or what a hand has added to ours."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from app.alerts.defaults import read_defaults
from app.domain.exits import check_exits, check_together
from app.domain.money import ZERO, plain
from app.domain.order import PositionMode, PositionSide
from app.domain.position import Position, PositionStatus
from app.domain.refusals import Outcome
from app.domain.signal import Exits
from app.errors import Conflict, InvalidInput
from app.flows import protect
from app.flows.legs import SETTLING_S
from app.flows.settle import arm
from app.ids import new_id
from app.resources import Resources
from app.store import books, drifts, orders, positions
from app.store.db import Connection, transaction
from app.store.strategies import Strategy
from app.venues.base import Holding, Standing


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for. `exits` go over the position's, or the strategy's defaults; `side` must be said where
    both sides are held.
    """

    account_id: UUID
    symbol: str
    side: PositionSide | None
    strategy: Strategy
    exits: Exits
    user_id: UUID


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID  # of the adoption, in the position's events
    position_id: UUID


async def adopt(resources: Resources, wanted: Adoption) -> Adopted:
    """Nothing is sent but the native stop. Raises InvalidInput, Conflict and what a read of the venue raises."""
    connected = await resources.venues.of(wanted.account_id)
    venue, symbol = connected.venue, wanted.symbol
    instrument = await venue.instrument(symbol)
    price = (await venue.quote(symbol)).last
    standing = await venue.standing(symbol)
    holding = _meant(standing, wanted)
    read_at = connected.there(resources.now())
    id = new_id()
    async with transaction(resources.pool) as connection:
        await books.lock(connection, wanted.account_id, symbol)
        if await books.is_claimed(connection, wanted.account_id, symbol) or await orders.in_flight(
            connection, wanted.account_id, symbol
        ):
            raise Conflict(f"{symbol} is being traded right now: try again in a moment", kind="busy")
        if await positions.changed_lately(connection, wanted.account_id, symbol, within_s=SETTLING_S):
            raise Conflict(
                f"{symbol} was traded a moment ago, and the exchange's list may not show it yet: try again in a moment",
                kind="busy",
            )
        live = await positions.live_for_update(connection, wanted.account_id, symbol)
        ours = next((one for one in live if one.side is holding.side), None)
        if ours is None and any(not one.hedge for one in live):
            raise Conflict(f"we hold the other side of {symbol}: close that first", kind="other_side")
        exits = wanted.exits.over(read_defaults(wanted.strategy.defaults).exits if ours is None else ours.exits)
        _check(exits, wanted.strategy, holding, price)
        if ours is None:
            hedge = standing.position_mode is PositionMode.HEDGE
            position = await _begin(connection, wanted, holding, exits, hedge=hedge, opened_at=read_at)
            qty = holding.qty
        else:
            position, qty = await _take_difference(connection, wanted, ours, holding, exits)
        await positions.adopt(connection, position.id, qty, read_at)
        await arm(connection, resources, position, instrument, at=read_at)
        await drifts.adopted(connection, wanted.account_id, symbol, holding.side, position.id)
        await positions.record(
            connection, "adopted", position_id=position.id, account_id=wanted.account_id,
            detail={"id": id, "user": wanted.user_id, "qty": plain(qty), "entry_price": plain(holding.entry_price)},
        )  # fmt: skip
    await protect.secure(resources, connected, position.id)
    await resources.bell.levels(position.id)
    return Adopted(id=id, position_id=position.id)


def _meant(standing: Standing, wanted: Adoption) -> Holding:
    found = [holding for holding in standing.holdings if wanted.side in (None, holding.side)]
    if not found:
        raise Conflict(f"the exchange holds nothing of {wanted.symbol} that could be adopted", kind="nothing_held")
    if len(found) > 1:
        raise InvalidInput("ambiguous_side", "both sides are held: say which with side, long or short", "side")
    return found[0]


def _check(exits: Exits, strategy: Strategy, holding: Holding, price: Decimal) -> None:
    if not exits.names_a_stop and not strategy.limits.trade_without_stop:
        raise InvalidInput(
            Outcome.NO_STOP,
            'name a stop in exits, such as {"stop_loss": {"pct": 1.5}}: nothing is managed without one',
            "exits",
        )
    wrong = check_exits(exits, holding.side, price) or check_together(exits, holding.side, holding.entry_price)
    if wrong is not None:
        raise InvalidInput(wrong.code, wrong.reason, "exits")


async def _begin(
    connection: Connection,
    wanted: Adoption,
    holding: Holding,
    exits: Exits,
    *,
    hedge: bool,
    opened_at: datetime,
) -> Position:
    position = Position(
        id=new_id(),
        account_id=wanted.account_id,
        strategy_id=wanted.strategy.id,
        symbol=wanted.symbol,
        side=holding.side,
        hedge=hedge,
        epoch=await books.next_epoch(connection, wanted.account_id, wanted.symbol),
        status=PositionStatus.OPEN,
        qty=holding.qty,
        qty_opened=holding.qty,
        entry_price=holding.entry_price,
        exits=exits,
        native_stop=holding.stop_loss,
        opened_at=opened_at,
    )
    await positions.insert(connection, position)
    return position


async def _take_difference(
    connection: Connection, wanted: Adoption, ours: Position, holding: Holding, exits: Exits
) -> tuple[Position, Decimal]:
    """The position as the exchange holds it, and by how much that differs from our fills."""
    if ours.strategy_id != wanted.strategy.id:
        raise Conflict(
            f"the {ours.side} of {ours.symbol} belongs to strategy {ours.strategy_id}: name that one",
            kind=Outcome.OTHER_STRATEGY,
        )
    more = holding.qty - ours.qty
    if more == ZERO:
        raise Conflict(f"this {ours.side} of {ours.symbol} is managed already, as it is", kind="already_managed")
    position = msgspec.structs.replace(
        ours,
        qty=holding.qty,
        qty_opened=ours.qty_opened + max(more, ZERO),
        entry_price=holding.entry_price,
        exits=exits,
    )
    await positions.update_fold(connection, position)
    await positions.set_exits(connection, position.id, exits)
    return position, more
