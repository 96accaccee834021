"""What a person asks for by hand."""

from decimal import Decimal
from uuid import UUID

from app.domain.money import floor_to_step
from app.domain.position import PositionStatus
from app.errors import Conflict, InvalidInput
from app.flows.protect import instruct_close
from app.ids import new_id
from app.resources import Resources
from app.store import positions
from app.store.db import store_errors
from app.store.inbox import CauseKind


async def close_position(
    resources: Resources, position_id: UUID, fraction: Decimal | None, user_id: UUID
) -> UUID | None:
    """Have a position closed, or `fraction` of what is held; answers the instruction's id.

    None when there is no such position; Conflict(kind="already_closed"); InvalidInput for a fraction of nothing.
    """
    if fraction is not None and not Decimal(0) < fraction <= Decimal(1):
        raise InvalidInput("bad_fraction", "fraction must be above 0 and at most 1, such as 0.5", "fraction")
    with store_errors():
        position = await positions.get(resources.pool, position_id)
    if position is None:
        return None
    if position.status is PositionStatus.CLOSED:
        raise Conflict("this position is closed already", kind="already_closed")
    qty = None
    if fraction is not None and fraction < 1:
        connected = await resources.venues.of(position.account_id)
        instrument = await connected.venue.instrument(position.symbol)
        qty = floor_to_step(position.qty * fraction, instrument.qty_step)
        if qty < instrument.qty_min:
            raise InvalidInput(
                "size_below_minimum",
                f"{fraction} of this position rounds down to {qty}; the exchange takes {instrument.qty_min} at least",
                "fraction",
            )
    with store_errors():
        await positions.record(
            resources.pool,
            "close_requested",
            position_id=position_id,
            account_id=position.account_id,
            detail={"user": user_id, "fraction": fraction},
        )
    return await instruct_close(resources, position, CauseKind.MANUAL, new_id(), qty=qty)
