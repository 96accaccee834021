"""Positions: what is held, what it is worth, and what protects it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, get, patch, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery, JSONBody

from app.alerts.exits import read_exits
from app.alerts.symbols import normalise
from app.api.access import at_least
from app.api.inject import Injected
from app.api.paging import LIMIT_DEFAULT, Cursor, Limit, Page, instant_and_id, one_page, read_cursor
from app.api.problems import not_found
from app.domain.callback import callback_pct
from app.domain.money import HUNDRED, plain
from app.domain.order import PositionSide
from app.domain.position import CloseReason, PositionStatus
from app.domain.shards import lease_of
from app.domain.signal import Exits
from app.errors import InvalidInput, Refused
from app.flows import manual
from app.flows.adopt import Adoption, adopt
from app.flows.change_exits import change_exits
from app.queue import LastPrice
from app.resources import Resources, market_of, origins_of
from app.store import accounts, blind, strategies, views
from app.store.users import Role, User
from app.store.views import EventView, FillView, LevelView, OrderView, PositionRow, reading

PRICE_FRESH_S = 30.0
"""An older price says nothing about what a position is worth now."""
STOPS = frozenset({"stop_loss", "trailing_stop", "trailing_take_profit", "break_even"})


class PositionJson(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    account: UUID
    account_name: str
    strategy: str
    venue: str
    environment: str
    symbol: str
    side: str
    status: PositionStatus
    qty: str
    qty_opened: str
    entry_price: str
    mark_price: str | None
    leverage: str | None
    realized_pnl: str
    unrealized_pnl: str | None
    fees: str
    native_stop: str | None
    opened_at: datetime
    closed_at: datetime | None
    close_reason: CloseReason | None
    protected_by: list[str]
    feed_age_ms: int | None
    """How old `mark_price` is."""
    levels: list[LevelView]


class PositionDetail(PositionJson, frozen=True, kw_only=True):
    orders: list[OrderView]
    fills: list[FillView]
    events: list[EventView]


class Close(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fraction` of what is held; all of it if left out."""

    fraction: Decimal | None = None


class Adopt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`exits` as in an alert (stop_loss, take_profit, trailing, …); the strategy's defaults for what is left out.
    `side` is needed where both sides of the symbol are held.
    """

    account: UUID
    symbol: str
    strategy: str
    side: PositionSide | None = None
    exits: dict[str, Any] = {}


class AdoptedJson(msgspec.Struct, frozen=True, kw_only=True):
    """`intent_id` is the adoption's, in the position's events."""

    intent_id: UUID
    position_id: UUID


class Commanded(msgspec.Struct, frozen=True, kw_only=True):
    intent_id: UUID


class PositionController(Controller):
    path = "/positions"
    tags = ("positions",)
    opt = at_least(Role.VIEWER)

    @get()
    async def list_positions(
        self,
        resources: Injected,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        status: FromQuery[PositionStatus | None] = None,
        strategy: FromQuery[str | None] = None,
        account: FromQuery[UUID | None] = None,
        symbol: FromQuery[str | None] = None,
    ) -> Page[PositionJson]:
        """Positions, the newest first."""
        after = read_cursor(cursor, instant_and_id)
        async with reading(resources.pool) as db:
            found = await views.positions(
                db, after=after, status=status, strategy=strategy, account=account,
                symbol=None if symbol is None else symbol.upper(), limit=limit + 1,
            )  # fmt: skip
        shaped = {json.id: json for json in await _shape(resources, found[:limit])}
        return one_page(found, limit, lambda row: shaped[row.id], lambda row: f"{row.opened_at.isoformat()} {row.id}")

    @get("/{position_id:uuid}")
    async def get_position(self, position_id: FromPath[UUID], resources: Injected) -> PositionDetail:
        """One position with its whole life."""
        async with reading(resources.pool) as db:
            row = await views.position(db, position_id)
            if row is None:
                raise not_found("position")
            more: dict[str, Any] = {
                "orders": await views.orders_of_position(db, position_id),
                "fills": await views.fills_of_position(db, position_id),
                "events": await views.events_of_position(db, position_id),
            }
        (json,) = await _shape(resources, [row])
        return PositionDetail(**msgspec.structs.asdict(json), **more)

    @post("/adopt", status_code=202, operation_id="adopt_position", opt=at_least(Role.TRADER))
    async def adopt(
        self, resources: Injected, request: Request[User, Any, State], data: JSONBody[Adopt]
    ) -> AdoptedJson:
        """Take a position under management that was opened at the exchange, or what was added to one of ours there."""
        async with reading(resources.pool) as db:
            strategy = await strategies.get(db, data.strategy)
            account = await accounts.get(db, data.account)
        if strategy is None:
            raise InvalidInput(
                "unknown_strategy", "There is no such strategy: name one of /api/v1/strategies.", "strategy"
            )
        if account is None:
            raise InvalidInput("unknown_account", "There is no such account: name one of /api/v1/accounts.", "account")
        done = await adopt(
            resources,
            Adoption(
                account_id=account.id,
                symbol=normalise(data.symbol, "symbol"),
                side=data.side,
                strategy=strategy,
                exits=_read_exits(data.exits, "exits."),
                user_id=request.user.id,
            ),
        )
        return AdoptedJson(intent_id=done.id, position_id=done.position_id)

    @patch("/{position_id:uuid}/exits", status_code=202, opt=at_least(Role.TRADER))
    async def change_exits(
        self,
        position_id: FromPath[UUID],
        resources: Injected,
        request: Request[User, Any, State],
        data: JSONBody[dict[str, Any]],
    ) -> Commanded:
        """Change the exits that are named, as in an alert (stop_loss, take_profit, trailing, …); null takes one away.
        Answers the id of the change, in the position's events.
        """
        if not data:
            raise InvalidInput(
                "no_exits", 'name an exit to change, such as {"stop_loss": {"pct": 1.5}}; null takes one away.'
            )
        exits = _read_exits(data)
        change_id = await change_exits(resources, position_id, exits, frozenset(data), request.user.id)
        if change_id is None:
            raise not_found("position")
        return Commanded(intent_id=change_id)

    @post("/{position_id:uuid}/close", status_code=202, operation_id="close_position", opt=at_least(Role.TRADER))
    async def close(
        self,
        position_id: FromPath[UUID],
        resources: Injected,
        request: Request[User, Any, State],
        data: JSONBody[Close | None] = None,
    ) -> Commanded:
        """Close a position at the market price, or a fraction of it."""
        fraction = None if data is None else data.fraction
        if fraction is not None and not fraction.is_finite():
            raise InvalidInput("bad_fraction", "fraction must be a number: correct it.", "fraction")
        intent_id = await manual.close_position(resources, position_id, fraction, request.user.id)
        if intent_id is None:
            raise not_found("position")
        return Commanded(intent_id=intent_id)


def _read_exits(given: dict[str, Any], prefix: str = "") -> Exits:
    for name in given:
        if name not in Exits.__struct_fields__:
            raise InvalidInput(
                "unknown_field",
                f"{name[:40]!r} is no exit: {', '.join(Exits.__struct_fields__)}.",
                f"{prefix}{name[:40]}",
            )
    return read_exits(given, prefix)


async def _shape(resources: Resources, rows: Sequence[PositionRow]) -> list[PositionJson]:
    async with reading(resources.pool) as db:
        levels = await views.levels_of(db, [row.id for row in rows])
        held = await views.live_leases(db)
        dark = await blind.rows(db)
        # A removed account has no live position, so no price is asked for.
        live = {row.account for row in rows if row.status != PositionStatus.CLOSED}
        markets = {account_id: await _market(resources, db, account_id) for account_id in live}
    books = {(row.account, row.symbol) for row in rows if row.account in live}
    prices = {book: await _price(resources, markets[book[0]], book[1]) for book in books}

    def is_watched(row: PositionRow) -> bool:
        market, lease = markets.get(row.account) or "", lease_of(row.symbol)
        return lease in held and not dark & {(market, lease, row.symbol), (market, lease, blind.EVERYTHING)}

    return [
        _json(row, levels[row.id], prices.get((row.account, row.symbol)), resources.now(), watched=is_watched(row))
        for row in rows
    ]


async def _market(resources: Resources, db: Any, account_id: UUID) -> str | None:
    """The name under which the account's prices are kept; None where it has no exchange to ask."""
    account = await accounts.get(db, account_id)
    try:
        if account is None:
            return None
        return market_of(account.venue, origins_of(account, resources.settings.simulator_url))
    except Refused:
        return None


async def _price(resources: Resources, market: str | None, symbol: str) -> LastPrice | None:
    """The mark price, by which the exchange values a position; the last price where the mark is not followed."""
    if market is None:
        return None
    mark = await resources.prices.get_mark(market, symbol)
    if mark is not None and mark.age_s(resources.now()) <= PRICE_FRESH_S:
        return mark
    return await resources.prices.get(market, symbol) or mark


def _json(
    row: PositionRow, levels: list[LevelView], price: LastPrice | None, now: datetime, *, watched: bool
) -> PositionJson:
    closed = row.status == PositionStatus.CLOSED
    seen = None if closed else price
    age_s = None if seen is None else max(0.0, seen.age_s(now))
    fresh = seen is not None and age_s is not None and age_s <= PRICE_FRESH_S
    return PositionJson(
        **{
            name: getattr(row, name) for name in PositionRow.__struct_fields__ if name not in ("status", "close_reason")
        },
        status=PositionStatus(row.status),
        close_reason=None if row.close_reason is None else CloseReason(row.close_reason),
        mark_price=plain(seen.price) if seen is not None and fresh else None,
        unrealized_pnl="0" if closed else _unrealized(row, seen.price) if seen is not None and fresh else None,
        protected_by=[] if closed else _protected_by(row, levels, watched=watched),
        feed_age_ms=None if age_s is None else int(age_s * 1000),
        levels=[_with_price(level, row.side) for level in levels],
    )


def _with_price(level: LevelView, side: str) -> LevelView:
    """A trailing stop's price follows from its extreme; it has none of its own."""
    if level.price is not None or level.extreme is None:
        return level
    extreme = Decimal(level.extreme)
    if level.distance is not None:
        distance = Decimal(level.distance)
    elif level.distance_pct is not None:
        distance = extreme * _callback_pct(level, extreme, side) / HUNDRED
    else:
        return level
    return msgspec.structs.replace(level, price=plain(extreme - distance * _sign(side)))


def _callback_pct(level: LevelView, extreme: Decimal, side: str) -> Decimal:
    start_pct = Decimal(level.distance_pct or 0)
    if level.decay_pct is None or level.activation_price is None:
        return start_pct
    gain_pct = (extreme / Decimal(level.activation_price) - 1) * HUNDRED * _sign(side)
    return callback_pct(start_pct, Decimal(level.min_factor), Decimal(level.decay_pct), gain_pct)


def _sign(side: str) -> int:
    return PositionSide(side).sign


def _unrealized(row: PositionRow, price: Decimal) -> str:
    return plain((price - Decimal(row.entry_price)) * Decimal(row.qty) * _sign(row.side))


def _protected_by(row: PositionRow, levels: Iterable[LevelView], *, watched: bool) -> list[str]:
    by_watcher = watched and any(_stops(level) for level in levels)
    return [*(["watcher"] if by_watcher else []), *(["exchange"] if row.native_stop is not None else [])]


def _stops(level: LevelView) -> bool:
    """Whether the level limits the loss from now on; one that sleeps until its activation does not."""
    awake = level.activation_price is None or level.extreme is not None
    return level.status == "armed" and level.kind in STOPS and awake
