"""Binance USD-M Futures as it travels: one Struct per row, one decoder per answer; frames are in `frames`.

Numbers are strings on this wire, and "" or null is "no value", so a number is read with `number`, never decoded
directly; the exceptions are prices of the public streams, where each microsecond counts. Unknown fields are ignored:
the exchange adds some without notice.
"""

from decimal import Decimal

import msgspec

# Names of the limits at the gate.
WEIGHT = "weight"
ORDERS_10S = "orders-10s"
ORDERS_1M = "orders-1m"
ORDER_LIMITS = (ORDERS_10S, ORDERS_1M)
LIMITS = {WEIGHT: 2400, ORDERS_10S: 300, ORDERS_1M: 1200}  # until exchangeInfo has told


# REST


class ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


class ServerTime(msgspec.Struct):
    serverTime: int


class RateLimitRow(msgspec.Struct):
    rateLimitType: str
    interval: str
    intervalNum: int
    limit: int


class Filter(msgspec.Struct):
    """Any of a symbol's filters; `filterType` says which fields count."""

    filterType: str
    tickSize: str | None = None
    stepSize: str | None = None
    minQty: str | None = None
    maxQty: str | None = None
    notional: str | None = None
    multiplierUp: str | None = None
    multiplierDown: str | None = None


class SymbolRow(msgspec.Struct):
    symbol: str
    status: str = ""
    contractType: str = ""
    marginAsset: str = ""
    filters: list[Filter] = []


class ExchangeInfo(msgspec.Struct):
    symbols: list[SymbolRow]
    rateLimits: list[RateLimitRow] = []


class Bracket(msgspec.Struct):
    initialLeverage: Decimal


class BracketsRow(msgspec.Struct):
    symbol: str
    brackets: list[Bracket] = []


class PlacedRow(msgspec.Struct):
    orderId: int


class OrderRow(msgspec.Struct):
    orderId: int
    symbol: str
    status: str
    clientOrderId: str = ""
    avgPrice: str | None = None
    executedQty: str | None = None
    time: int | None = None
    updateTime: int | None = None


class TradeRow(msgspec.Struct):
    """One execution of the account."""

    id: int
    orderId: int
    symbol: str
    side: str
    price: str
    qty: str
    time: int
    positionSide: str = "BOTH"
    commission: str | None = None
    commissionAsset: str | None = None


class PositionRow(msgspec.Struct):
    symbol: str
    positionAmt: str
    positionSide: str = "BOTH"
    entryPrice: str | None = None
    marginAsset: str | None = None


class AccountConfig(msgspec.Struct):
    dualSidePosition: bool
    multiAssetsMargin: bool = False
    canTrade: bool = True


class SymbolConfig(msgspec.Struct):
    symbol: str
    marginType: str = ""
    leverage: int | None = None


class AlgoRow(msgspec.Struct):
    algoId: int
    symbol: str
    side: str
    algoStatus: str
    orderType: str = ""
    clientAlgoId: str = ""
    positionSide: str = "BOTH"
    quantity: str | None = None
    triggerPrice: str | None = None
    closePosition: bool = False
    reduceOnly: bool = False


class AssetRow(msgspec.Struct):
    asset: str
    marginBalance: str | None = None
    availableBalance: str | None = None


class Account(msgspec.Struct):
    totalMarginBalance: str | None = None
    availableBalance: str | None = None
    assets: list[AssetRow] = []


class Restrictions(msgspec.Struct):
    """What a key may do."""

    ipRestrict: bool | None = None
    enableFutures: bool | None = None
    enableWithdrawals: bool | None = None


class PremiumIndex(msgspec.Struct):
    markPrice: str


class TickerPrice(msgspec.Struct):
    price: str


class ListedPrice(msgspec.Struct):
    symbol: str
    price: str


class BookPrices(msgspec.Struct):
    bidPrice: str | None = None
    askPrice: str | None = None


class AggregateRow(msgspec.Struct):
    """One public trade, as REST tells it."""

    id: int = msgspec.field(name="a")
    price: str = msgspec.field(name="p")
    at_ms: int = msgspec.field(name="T")


class ListenKey(msgspec.Struct):
    listenKey: str


# order entry


class RetryData(msgspec.Struct):
    retryAfter: int | None = None  # ms since the epoch


class EntryError(ErrorBody):
    data: RetryData | None = None


class EntryFrame(msgspec.Struct):
    """An answer of the order entry socket; `id` is null where it is to no request."""

    id: str | None = None
    status: int = 0
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: EntryError | None = None
    rateLimits: msgspec.Raw = msgspec.Raw(b"[]")


class UsedLimit(RateLimitRow):
    count: int


ERROR = msgspec.json.Decoder(ErrorBody, strict=False)  # the code may be a string
SERVER_TIME = msgspec.json.Decoder(ServerTime)
EXCHANGE_INFO = msgspec.json.Decoder(ExchangeInfo)
BRACKETS = msgspec.json.Decoder(list[BracketsRow])
PLACED = msgspec.json.Decoder(PlacedRow)
ORDER = msgspec.json.Decoder(OrderRow)
TRADES = msgspec.json.Decoder(list[TradeRow])
POSITIONS = msgspec.json.Decoder(list[PositionRow])
ACCOUNT_CONFIG = msgspec.json.Decoder(AccountConfig)
SYMBOL_CONFIGS = msgspec.json.Decoder(list[SymbolConfig], strict=False)  # the leverage may be a string, as in v2
ALGOS = msgspec.json.Decoder(list[AlgoRow])
ACCOUNT = msgspec.json.Decoder(Account)
RESTRICTIONS = msgspec.json.Decoder(Restrictions)
PREMIUM_INDEX = msgspec.json.Decoder(PremiumIndex)
TICKER_PRICE = msgspec.json.Decoder(TickerPrice)
LISTED_PRICES = msgspec.json.Decoder(list[ListedPrice])
BOOK_PRICES = msgspec.json.Decoder(BookPrices)
AGGREGATES = msgspec.json.Decoder(list[AggregateRow])
CANDLES = msgspec.json.Decoder(list[list[int | str]])
LISTEN_KEY = msgspec.json.Decoder(ListenKey)
ENTRY_FRAME = msgspec.json.Decoder(EntryFrame)
USED_LIMITS = msgspec.json.Decoder(list[UsedLimit])
