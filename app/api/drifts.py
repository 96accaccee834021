"""Differences between our positions and the exchange's: what was healed, and what waits for a person."""

from datetime import datetime
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.params import FromQuery

from app.api.access import at_least
from app.api.inject import Injected
from app.api.paging import LIMIT_DEFAULT, Cursor, Limit, Page, instant_and_id, one_page, read_cursor
from app.domain.drift import DRIFTS, DriftKind
from app.domain.order import PositionSide
from app.store import drifts
from app.store.drifts import Drift, DriftStatus
from app.store.users import Role
from app.store.views import reading


class DriftJson(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    account: UUID
    symbol: str
    side: PositionSide
    kind: DriftKind
    status: DriftStatus
    position: UUID | None
    detail: str
    means: str
    todo: str | None
    """What to do about it; None when it is over."""
    seen_at: datetime
    ended_at: datetime | None


class DriftController(Controller):
    path = "/drifts"
    tags = ("positions",)
    opt = at_least(Role.VIEWER)

    @get()
    async def list_drifts(
        self,
        resources: Injected,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        status: FromQuery[DriftStatus | None] = None,
        account: FromQuery[UUID | None] = None,
    ) -> Page[DriftJson]:
        """Differences with the exchange, the newest first; `status=needs_operator` are those that wait for somebody."""
        after = read_cursor(cursor, instant_and_id)
        async with reading(resources.pool) as db:
            found = await drifts.page(db, after=after, status=status, account=account, limit=limit + 1)
        return one_page(found, limit, _json, lambda one: f"{one.seen_at.isoformat()} {one.id}")


def _json(one: Drift) -> DriftJson:
    waits = one.status is DriftStatus.NEEDS_OPERATOR
    return DriftJson(
        id=one.id,
        account=one.account_id,
        symbol=one.symbol,
        side=one.side,
        kind=one.kind,
        status=one.status,
        position=one.position_id,
        detail=one.detail,
        means=DRIFTS[one.kind].means,
        todo=DRIFTS[one.kind].done if waits else None,
        seen_at=one.seen_at,
        ended_at=one.ended_at,
    )
