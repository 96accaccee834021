"""The words of the engine: orders, fills, positions, accounts, and the events it emits.

Nothing here knows a wire format. Quantities are in base coin, prices and money in USDT, times in ms since the epoch
(UTC).
"""

import enum
from decimal import Decimal

import msgspec

ZERO = Decimal(0)


class Side(enum.StrEnum):
    BUY = "Buy"
    SELL = "Sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(enum.StrEnum):
    MARKET = "Market"
    LIMIT = "Limit"


class TimeInForce(enum.StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    POST_ONLY = "PostOnly"


class TriggerBy(enum.StrEnum):
    LAST = "LastPrice"
    MARK = "MarkPrice"
    INDEX = "IndexPrice"  # the index is the mark here


class OrderStatus(enum.StrEnum):
    NEW = "New"  # resting in the book
    PARTIALLY_FILLED = "PartiallyFilled"  # resting, or passing through
    UNTRIGGERED = "Untriggered"  # conditional, waiting for its price
    TRIGGERED = "Triggered"  # passing state: Untriggered -> Triggered -> New or done
    FILLED = "Filled"
    CANCELLED = "Cancelled"  # may have filled in part before
    REJECTED = "Rejected"
    DEACTIVATED = "Deactivated"  # conditional, ended before it fired


OPEN_STATUSES = frozenset(
    {OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.UNTRIGGERED, OrderStatus.TRIGGERED}
)


class StopKind(enum.StrEnum):
    """What sort of conditional order it is; the last three are children of a position."""

    NONE = ""
    STOP = "Stop"
    STOP_LOSS = "StopLoss"
    TAKE_PROFIT = "TakeProfit"
    TRAILING = "TrailingStop"


class CreatedBy(enum.StrEnum):
    USER = "user"
    HAND = "hand"  # through the control API: a person at the exchange's own page
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TRAILING = "trailing"


class EndReason(enum.StrEnum):
    """Why an order ended without (all of) its fill."""

    NONE = ""
    BY_USER = "by_user"
    REDUCE_ONLY = "reduce_only"  # nothing left that it could reduce
    POSITION_CLOSED = "position_closed"  # a child whose position is gone
    NO_LIQUIDITY = "no_liquidity"
    NO_FULL_FILL = "no_full_fill"
    POST_ONLY_TAKES = "post_only_takes"
    REJECTED = "rejected"  # by a fault
    NO_MARGIN = "no_margin"  # found out when a conditional order fired


class Reason(enum.Enum):
    """Why a request is refused. Each face has one table from these to its codes."""

    UNKNOWN_SYMBOL = enum.auto()
    NOT_TRADING = enum.auto()
    PRICE_TICK = enum.auto()
    PRICE_RANGE = enum.auto()
    QTY_STEP = enum.auto()
    QTY_MIN = enum.auto()
    QTY_MAX = enum.auto()
    NOTIONAL_MIN = enum.auto()
    DUPLICATE_ID = enum.auto()
    NOTHING_TO_REDUCE = enum.auto()
    REDUCE_COVERED = enum.auto()
    MARGIN = enum.auto()
    STOP_SIDE = enum.auto()
    STOP_ON_REDUCE_ONLY = enum.auto()
    TRIGGER_NOT_ABOVE = enum.auto()
    TRIGGER_NOT_BELOW = enum.auto()
    TOO_MANY_ORDERS = enum.auto()
    TOO_MANY_STOPS = enum.auto()
    NOT_FOUND = enum.auto()
    ORDER_NOT_MODIFIED = enum.auto()
    STOPS_NOT_MODIFIED = enum.auto()
    ZERO_POSITION = enum.auto()
    LEVERAGE_NOT_MODIFIED = enum.auto()
    LEVERAGE_MAX = enum.auto()
    LEVERAGE_INVALID = enum.auto()


class Refused(Exception):
    """The engine will not do this; `detail` goes into the face's text."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.name} {detail}".strip())
        self.reason = reason
        self.detail = detail


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for. `qty` 0 with `close_on_trigger` and `reduce_only` closes all that is there."""

    symbol: str
    side: Side
    type: OrderType
    qty: Decimal
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    client_order_id: str = ""
    reduce_only: bool = False
    close_on_trigger: bool = False
    trigger_price: Decimal | None = None
    trigger_direction: int = 0  # 1 fires on a rise to the price, 2 on a fall to it
    trigger_by: TriggerBy = TriggerBy.LAST
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    sl_trigger_by: TriggerBy = TriggerBy.LAST
    tp_trigger_by: TriggerBy = TriggerBy.LAST
    created_by: CreatedBy = CreatedBy.USER


class OrderChange(msgspec.Struct, frozen=True, kw_only=True):
    """An amendment; None leaves the field as it is. A stop of 0 removes it."""

    qty: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """Stops of a whole position; None leaves one as it is, 0 removes it. `trailing` is a price distance."""

    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    trailing: Decimal | None = None
    active_price: Decimal | None = None
    sl_trigger_by: TriggerBy = TriggerBy.LAST
    tp_trigger_by: TriggerBy = TriggerBy.LAST


class Order(msgspec.Struct, kw_only=True):
    account: str
    order_id: str
    seq: int  # grows with each order of the exchange; the order in which they are listed and matched
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    qty: Decimal
    created_by: CreatedBy
    status: OrderStatus
    created_ms: int
    updated_ms: int
    last_price_on_created: Decimal
    parent_client_order_id: str = ""
    price: Decimal | None = None  # of a market order: the protective price it will not go beyond
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    close_on_trigger: bool = False
    stop_kind: StopKind = StopKind.NONE
    trigger_price: Decimal | None = None
    trigger_direction: int = 0
    trigger_by: TriggerBy = TriggerBy.LAST
    trail_distance: Decimal | None = None
    active_price: Decimal | None = None  # a trailing stop sleeps until this price was seen
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    sl_trigger_by: TriggerBy = TriggerBy.LAST
    tp_trigger_by: TriggerBy = TriggerBy.LAST
    filled_qty: Decimal = ZERO
    filled_value: Decimal = ZERO
    fee: Decimal = ZERO
    end_reason: EndReason = EndReason.NONE
    closed_qty: Decimal = ZERO  # what its fills took off a position
    closed_entry_value: Decimal = ZERO
    closed_exit_value: Decimal = ZERO
    closed_pnl: Decimal = ZERO  # after the fees of opening and closing
    fill_count: int = 0

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def is_child(self) -> bool:
        return self.stop_kind in (StopKind.STOP_LOSS, StopKind.TAKE_PROFIT, StopKind.TRAILING)

    @property
    def leaves_qty(self) -> Decimal:
        return self.qty - self.filled_qty if self.is_open else ZERO


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. `pnl` is price against entry of the part that closed, before fees."""

    fill_id: str
    seq: int
    order_id: str
    client_order_id: str
    account: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    value: Decimal
    fee: Decimal
    fee_rate: Decimal
    is_maker: bool
    closed_qty: Decimal
    pnl: Decimal
    leaves_qty: Decimal
    mark_price: Decimal
    order_type: OrderType
    order_qty: Decimal
    order_price: Decimal | None
    stop_kind: StopKind
    created_by: CreatedBy
    at_ms: int
    exec_type: str = "Trade"


class Position(msgspec.Struct, kw_only=True):
    """One-way position: `qty` is signed, `cost` is the entry value of what is held (never negative)."""

    account: str
    symbol: str
    qty: Decimal = ZERO
    cost: Decimal = ZERO
    open_fee: Decimal = ZERO  # fees paid for what is held
    realized_pnl: Decimal = ZERO  # since ever, before fees
    net_realized_pnl: Decimal = ZERO  # since ever, after fees
    current_realized_pnl: Decimal = ZERO  # since this position was opened, after fees
    created_ms: int = 0  # first ever
    opened_ms: int = 0
    updated_ms: int = 0
    seq: int = -1
    children: dict[StopKind, str] = {}  # kind -> order id

    @property
    def side(self) -> Side | None:
        return None if not self.qty else Side.BUY if self.qty > 0 else Side.SELL

    @property
    def size(self) -> Decimal:
        return abs(self.qty)

    @property
    def entry_price(self) -> Decimal:
        return self.cost / self.size if self.qty else ZERO

    def reducible_by(self, side: Side) -> Decimal:
        """How much an order of this side can take off."""
        return self.size if self.qty and self.side is not side else ZERO

    def unrealized_pnl(self, mark: Decimal) -> Decimal:
        return self.qty * mark - (self.cost if self.qty > 0 else -self.cost)


class Account(msgspec.Struct, kw_only=True):
    name: str
    balance: Decimal  # wallet: deposits + realised P&L - fees
    deposited: Decimal
    leverage: dict[str, Decimal] = {}
    positions: dict[str, Position] = {}
    orders: dict[str, Order] = {}  # order id -> order, oldest first
    fills: list[Fill] = []
    order_ids: dict[str, str] = {}  # client order id -> order id, never forgotten


class OrderChanged(msgspec.Struct, frozen=True, tag=True):
    order: Order


class Filled(msgspec.Struct, frozen=True, tag=True):
    fill: Fill


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    """A position at one moment with all that a face shows of it."""

    position: Position
    mark: Decimal
    leverage: Decimal
    stop_loss: Decimal
    take_profit: Decimal
    trailing: Decimal


class PositionChanged(msgspec.Struct, frozen=True, tag=True):
    view: PositionView


class WalletChanged(msgspec.Struct, frozen=True, tag=True):
    account: str


Event = OrderChanged | Filled | PositionChanged | WalletChanged


class Trade(msgspec.Struct, frozen=True):
    """One print of the market."""

    price: Decimal
    qty: Decimal
    side: Side
    trade_id: str
