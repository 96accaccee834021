"""The words of the engine: orders, fills, positions, accounts, and the events it emits.

Nothing here knows a wire format. Quantities are in base coin, prices and money in USDT, times in ms since the epoch
(UTC).
"""

import enum
from decimal import Decimal

import msgspec

ZERO = Decimal(0)
# Of a new account, https://www.bybit.com/en/help-center/article/Trading-Fee-Structure; each account has its own.
TAKER_FEE = Decimal("0.00055")
MAKER_FEE = Decimal("0.0002")


class Side(enum.StrEnum):
    BUY = "Buy"
    SELL = "Sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class PositionSide(enum.StrEnum):
    """Which position of a symbol is meant: its only one (one-way mode), or one of two side by side (hedge mode)."""

    BOTH = "Both"
    LONG = "Long"
    SHORT = "Short"

    @property
    def opens_with(self) -> Side | None:
        """None: either side may open."""
        return {PositionSide.LONG: Side.BUY, PositionSide.SHORT: Side.SELL}.get(self)


HEDGE_SIDES = (PositionSide.LONG, PositionSide.SHORT)


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
    LIQUIDATION = "liquidation"
    ADL = "adl"
    FUNDING = "funding"  # of an execution only: no order makes it


class ExecType(enum.StrEnum):
    TRADE = "Trade"
    LIQUIDATION = "BustTrade"
    ADL = "AdlTrade"
    FUNDING = "Funding"  # moves cash, not size


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
    REFUSED_AT_TRIGGER = "refused_at_trigger"  # by a fault
    LIQUIDATION = "liquidation"  # the position is about to be taken over
    ADL = "adl"


class Reason(enum.Enum):
    """Why a request is refused. Each face has one table from these to its codes."""

    UNKNOWN_SYMBOL = enum.auto()
    NOT_TRADING = enum.auto()
    DELISTING = enum.auto()  # positions may only be closed
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
    POSITION_SIDE = enum.auto()  # does not fit the position mode
    POSITION_MODE_NOT_MODIFIED = enum.auto()
    POSITION_MODE_HELD = enum.auto()  # a position is in the way
    POSITION_MODE_ORDERS = enum.auto()  # orders are in the way
    MARGIN_MODE_NOT_MODIFIED = enum.auto()
    MARGIN_MODE_HELD = enum.auto()
    MARGIN_MODE_ORDERS = enum.auto()


class Refused(Exception):
    """The engine will not do this; `detail` goes into the face's text."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.name} {detail}".strip())
        self.reason = reason
        self.detail = detail


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for. `qty` 0 with `close_on_trigger` and `reduce_only` closes all that is there.

    `close_position` is for conditional orders: no quantity, closes all of its position when it fires.
    `ends_with_position`: the exchange ends the waiting order when its position is gone; `close_position` implies it.
    `reuse_ids`: an id is refused only while an open order has it, not for ever.
    """

    symbol: str
    side: Side
    type: OrderType
    qty: Decimal
    position_side: PositionSide = PositionSide.BOTH
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
    close_position: bool = False
    ends_with_position: bool = False
    reuse_ids: bool = False
    stops_max: int = 10  # conditional orders of the account per symbol


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
    position_side: PositionSide = PositionSide.BOTH
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
    close_position: bool = False
    ends_with_position: bool = False
    fired_ms: int = 0  # when a conditional order's trigger was crossed
    fired_seq: int = 0  # a number of its own for the order that it became then
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
    """One execution. `pnl` is price against entry of the part that closed, before fees.

    Of funding `qty` is the position's size, `fee` what was paid (negative: received), and there is no order.
    """

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
    position_side: PositionSide = PositionSide.BOTH
    exec_type: ExecType = ExecType.TRADE


class Position(msgspec.Struct, kw_only=True):
    """`qty` is signed in every mode (a short leg's is negative), `cost` is the entry value of what is held (never
    negative)."""

    account: str
    symbol: str
    position_side: PositionSide = PositionSide.BOTH
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


def position_key(symbol: str, position_side: PositionSide = PositionSide.BOTH) -> str:
    """The key of `Account.positions`: text, since the books are kept as JSON."""
    return symbol if position_side is PositionSide.BOTH else f"{symbol}/{position_side}"


class Account(msgspec.Struct, kw_only=True):
    name: str
    balance: Decimal  # wallet: deposits + realised P&L - fees
    deposited: Decimal
    venue: str = "bybit"  # whose fees it pays
    hedge: bool = False  # position mode where the symbol has none of its own
    hedge_symbols: dict[str, bool] = {}
    isolated: bool = False  # margin mode where the symbol has none of its own
    isolated_symbols: dict[str, bool] = {}
    taker_fee: Decimal = TAKER_FEE
    maker_fee: Decimal = MAKER_FEE
    leverage: dict[str, Decimal] = {}  # by symbol; of a leg that has its own by `position_key`
    positions: dict[str, Position] = {}  # by `position_key`
    orders: dict[str, Order] = {}  # order id -> order, oldest first
    fills: list[Fill] = []
    order_ids: dict[str, str] = {}  # client order id -> id of the newest order with it, never forgotten

    def is_hedge(self, symbol: str) -> bool:
        return self.hedge_symbols.get(symbol, self.hedge)

    def is_isolated(self, symbol: str) -> bool:
        return self.isolated_symbols.get(symbol, self.isolated)

    def position_sides(self, symbol: str) -> tuple[PositionSide, ...]:
        """The positions that the symbol has in its present mode, flat or not."""
        return HEDGE_SIDES if self.is_hedge(symbol) else (PositionSide.BOTH,)


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
    """`change` is what the event added to the balance, after fees."""

    account: str
    exec_type: ExecType = ExecType.TRADE
    symbol: str = ""
    position_side: PositionSide = PositionSide.BOTH
    change: Decimal = ZERO


Event = OrderChanged | Filled | PositionChanged | WalletChanged


class Trade(msgspec.Struct, frozen=True):
    """One print of the market."""

    price: Decimal
    qty: Decimal
    side: Side
    trade_id: str
