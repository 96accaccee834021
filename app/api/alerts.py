"""Alerts: what came in, and what became of it."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.params import FromPath, FromQuery

from app.api.access import at_least
from app.api.inject import Injected
from app.api.paging import LIMIT_DEFAULT, Cursor, Limit, Page, one_page, read_cursor
from app.api.problems import not_found
from app.store import rejected, views
from app.store.inbox import AlertStatus
from app.store.rejected import Rejected
from app.store.users import Role
from app.store.views import AlertView, EventView, FillView, InstructionView, OrderView, OutcomeView, reading


class AccountOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the alert ended on one of its accounts; each stands for itself."""

    account: UUID
    account_name: str
    multiplier: str
    status: str
    outcome: OutcomeView | None
    attempts: int
    finished_at: datetime | None


class AlertDetail(AlertView, frozen=True, kw_only=True):
    body: str
    content_type: str
    source: str
    accounts: list[AccountOutcome]
    """One per account that the alert was for."""
    instructions: list[InstructionView]
    """The same with what was asked of each, by the ids that orders and events refer to."""
    orders: list[OrderView]
    fills: list[FillView]
    events: list[EventView]


class RejectedJson(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is the beginning of what was sent, without secrets; `body_bytes` counts all of it."""

    id: UUID
    strategy: str
    code: str
    reason: str
    field: str | None
    body: str
    body_bytes: int
    content_type: str
    source: str
    received_at: datetime


class AlertController(Controller):
    path = "/alerts"
    tags = ("alerts",)
    opt = at_least(Role.VIEWER)

    @get()
    async def list_alerts(
        self,
        resources: Injected,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        strategy: FromQuery[str | None] = None,
        status: FromQuery[AlertStatus | None] = None,
    ) -> Page[AlertView]:
        """Alerts, the newest first."""
        before = read_cursor(cursor, _seq)
        async with reading(resources.pool) as db:
            found = await views.alerts(db, before_seq=before, strategy=strategy, status=status, limit=limit + 1)
        return one_page(found, limit, lambda row: row.alert, lambda row: str(row.seq))

    @get("/rejected")
    async def list_rejected(
        self,
        resources: Injected,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        strategy: FromQuery[str | None] = None,
    ) -> Page[RejectedJson]:
        """What came with the right secret and was refused at the door, so that no alert came of it. The newest first:
        the last hundred of each strategy, of the last thirty days.
        """
        before = read_cursor(cursor, UUID)
        async with reading(resources.pool) as db:
            found = await rejected.page(db, before=before, strategy=strategy, limit=limit + 1)
        return one_page(found, limit, _rejected, lambda row: str(row.id))

    @get("/{alert_id:uuid}")
    async def get_alert(self, alert_id: FromPath[UUID], resources: Injected) -> AlertDetail:
        """One alert with all that it led to."""
        async with reading(resources.pool) as db:
            row = await views.alert(db, alert_id)
            source = await views.alert_source(db, alert_id)
            if row is None or source is None:
                raise not_found("alert")
            orders = await views.orders_of_alert(db, alert_id)
            instructions = await views.instructions_of_alert(db, alert_id)
            more: dict[str, Any] = {
                "accounts": [_account_outcome(instruction) for instruction in instructions],
                "instructions": instructions,
                "orders": orders,
                "fills": await views.fills_of_orders(db, [order.id for order in orders]),
                "events": await views.events_of_alert(db, alert_id),
            }
        return AlertDetail(**msgspec.structs.asdict(row.alert), **msgspec.structs.asdict(source), **more)


def _account_outcome(instruction: InstructionView) -> AccountOutcome:
    return AccountOutcome(**{name: getattr(instruction, name) for name in AccountOutcome.__struct_fields__})


def _rejected(row: Rejected) -> RejectedJson:
    given = msgspec.structs.asdict(row)
    return RejectedJson(strategy=given.pop("strategy_id"), **given)


def _seq(place: str) -> int:
    seq = int(place)
    if not 0 <= seq < 2**63:
        raise ValueError(seq)
    return seq
