"""Bybit V5 as it travels: one Struct per row, one decoder per answer, and the signature.

Numbers are strings on this wire and "" (or null) is "no value", so a number is read with `number`, never decoded
directly; the one exception is a public trade's price, where each microsecond counts. Unknown fields are ignored: the
exchange adds some without notice.
"""

from typing import Generic, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from app.domain.refusals import Outcome
from app.errors import Refused
from app.keys import Credentials
from app.venues.signatures import Sign, private_key, with_rsa, with_secret

T = TypeVar("T")
AUTH_VALID_S = 10

# Signing: https://bybit-exchange.github.io/docs/v5/guide#authentication


def signer(credentials: Credentials) -> Sign:
    """What signs. Raises Refused when the key is none of those that Bybit takes."""
    if credentials.api_secret is not None:
        return with_secret(credentials.api_secret)
    key = private_key(credentials.private_key)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Refused(Outcome.VENUE_REFUSED, "Bybit takes a secret, or an RSA private key in PEM without a password")
    return with_rsa(key)


def auth(key: str, sign: Sign, now_ms: int) -> dict[str, object]:
    """What a socket of the account says first; `now_ms` by the exchange's clock."""
    expires_ms = now_ms + AUTH_VALID_S * 1000
    return {"op": "auth", "args": [key, expires_ms, sign(f"GET/realtime{expires_ms}".encode())]}


# REST


class Envelope(msgspec.Struct):
    """What every answer is wrapped in; `retCode` alone says whether it is good."""

    retCode: int
    retMsg: str | None = ""
    result: msgspec.Raw = msgspec.Raw(b"{}")
    time: int = 0


class Page(msgspec.Struct, Generic[T]):
    list: list[T]
    nextPageCursor: str | None = None


class PlacedRow(msgspec.Struct):
    orderId: str


class LotSizeFilter(msgspec.Struct):
    qtyStep: str
    minOrderQty: str
    maxOrderQty: str
    maxMktOrderQty: str | None = None
    minNotionalValue: str | None = None


class PriceFilter(msgspec.Struct):
    tickSize: str


class LeverageFilter(msgspec.Struct):
    maxLeverage: str


class InstrumentRow(msgspec.Struct):
    symbol: str
    contractType: str
    status: str
    settleCoin: str
    lotSizeFilter: LotSizeFilter
    priceFilter: PriceFilter
    leverageFilter: LeverageFilter
    isPreListing: bool | None = False
    deliveryTime: str | None = None


class ListedRow(msgspec.Struct):
    """The same, by name only."""

    symbol: str
    contractType: str = ""


class CoinRow(msgspec.Struct):
    coin: str
    equity: str | None = None
    walletBalance: str | None = None
    totalPositionIM: str | None = None
    totalOrderIM: str | None = None
    locked: str | None = None
    bonus: str | None = None


class WalletRow(msgspec.Struct):
    totalEquity: str | None = None
    totalAvailableBalance: str | None = None
    coin: list[CoinRow] = []


class AccountInfo(msgspec.Struct):
    marginMode: str


class PositionRow(msgspec.Struct):
    symbol: str
    positionIdx: int
    side: str
    size: str
    avgPrice: str | None = None
    stopLoss: str | None = None
    leverage: str | None = None


class OrderRow(msgspec.Struct):
    orderId: str
    symbol: str
    orderStatus: str
    side: str = ""
    positionIdx: int = 0
    orderLinkId: str | None = None
    avgPrice: str | None = None
    cumExecQty: str | None = None
    cancelType: str | None = None
    rejectReason: str | None = None
    stopOrderType: str | None = None
    triggerPrice: str | None = None
    reduceOnly: bool | None = False
    closeOnTrigger: bool | None = False


class ExecutionRow(msgspec.Struct):
    execId: str
    orderId: str
    symbol: str
    side: str
    execPrice: str
    execQty: str
    execType: str
    execTime: str
    orderLinkId: str | None = None
    closedSize: str | None = None
    execFee: str | None = None
    feeCurrency: str | None = None
    createType: str | None = None
    stopOrderType: str | None = None


class TickerRow(msgspec.Struct):
    symbol: str
    lastPrice: str
    markPrice: str
    bid1Price: str | None = None
    ask1Price: str | None = None


class RecentTradeRow(msgspec.Struct):
    execId: str
    symbol: str
    price: str
    time: str


class KeyInfo(msgspec.Struct):
    readOnly: int = 0
    ips: list[str] | None = None
    permissions: dict[str, list[str] | None] = {}


class EntryFrame(msgspec.Struct):
    """Any frame of the order entry socket: an order's answer (`reqId`), or that to an operation (`op`)."""

    retCode: int | None = None
    reqId: str | None = ""
    retMsg: str | None = ""
    op: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")
    header: dict[str, str | int | None] | None = None


ENVELOPE = msgspec.json.Decoder(Envelope)
PLACED = msgspec.json.Decoder(PlacedRow)
INSTRUMENTS = msgspec.json.Decoder(Page[InstrumentRow])
LISTED = msgspec.json.Decoder(Page[ListedRow])
ACCOUNT_INFO = msgspec.json.Decoder(AccountInfo)
WALLETS = msgspec.json.Decoder(Page[WalletRow])
POSITIONS = msgspec.json.Decoder(Page[PositionRow])
ORDERS = msgspec.json.Decoder(Page[OrderRow])
EXECUTIONS = msgspec.json.Decoder(Page[ExecutionRow])
TICKERS = msgspec.json.Decoder(Page[TickerRow])
RECENT_TRADES = msgspec.json.Decoder(Page[RecentTradeRow])
CANDLES = msgspec.json.Decoder(Page[list[str]])
KEY_INFO = msgspec.json.Decoder(KeyInfo)
ENTRY_FRAME = msgspec.json.Decoder(EntryFrame)
