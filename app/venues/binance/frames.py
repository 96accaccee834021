"""Frames of Binance's sockets, one Struct each, told apart by `e`. Keys that differ by case only are different fields.

https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams and …/user-data-streams.
"""

from decimal import Decimal

import msgspec

# Public. The Structs are decoded a thousand times a second: no field more than is needed.


class AggregateTrade(
    msgspec.Struct,
    tag_field="e",
    tag="aggTrade",
    gc=False,
    rename={"symbol": "s", "trade_id": "a", "price": "p", "at_ms": "T"},
):
    symbol: str
    trade_id: int
    price: Decimal
    at_ms: int


class MarkPrice(
    msgspec.Struct,
    tag_field="e",
    tag="markPriceUpdate",
    gc=False,
    rename={"symbol": "s", "price": "p", "at_ms": "E"},
):
    symbol: str
    price: Decimal
    at_ms: int


class BookTicker(
    msgspec.Struct,
    tag_field="e",
    tag="bookTicker",
    gc=False,
    rename={"symbol": "s", "number": "u", "bid": "b", "ask": "a", "at_ms": "T"},
):
    symbol: str
    number: int  # grows per symbol
    bid: Decimal
    ask: Decimal
    at_ms: int


class Reason(msgspec.Struct):
    code: int = 0
    msg: str = ""


class Reply(msgspec.Struct):
    """The answer to a request, or a frame that is none of the others (`e`)."""

    id: int | str | None = None
    error: Reason | None = None
    e: str = ""
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


PublicFrame = AggregateTrade | MarkPrice | BookTicker
PUBLIC_FRAME = msgspec.json.Decoder(PublicFrame)
REPLY = msgspec.json.Decoder(Reply)

# Private


class OrderEvent(
    msgspec.Struct,
    rename={
        "symbol": "s",
        "client_id": "c",
        "side": "S",
        "event": "x",
        "order_id": "i",
        "qty": "l",
        "price": "L",
        "fee_asset": "N",
        "fee": "n",
        "at_ms": "T",
        "trade_id": "t",
        "position_side": "ps",
    },
):
    """What happened to an order; `qty` and `price` are those of this one execution."""

    symbol: str
    side: str
    event: str
    order_id: int
    at_ms: int
    client_id: str = ""
    qty: str = "0"
    price: str = "0"
    fee_asset: str | None = None
    fee: str | None = None
    trade_id: int = 0
    position_side: str = "BOTH"


class OrderUpdate(msgspec.Struct, tag_field="e", tag="ORDER_TRADE_UPDATE", rename={"order": "o"}):
    order: OrderEvent


class Named(msgspec.Struct, rename={"symbol": "s"}):
    symbol: str = ""


class Balances(msgspec.Struct, rename={"positions": "P"}):
    positions: list[Named] = []


class AccountUpdate(msgspec.Struct, tag_field="e", tag="ACCOUNT_UPDATE", rename={"account": "a"}):
    account: Balances


class AlgoUpdate(msgspec.Struct, tag_field="e", tag="ALGO_UPDATE", rename={"order": "o"}):
    order: Named


class ConfigUpdate(msgspec.Struct, tag_field="e", tag="ACCOUNT_CONFIG_UPDATE", rename={"of_symbol": "ac"}):
    of_symbol: Named | None = None


class MarginCall(msgspec.Struct, tag_field="e", tag="MARGIN_CALL", rename={"positions": "p"}):
    positions: list[Named] = []


class KeyExpired(msgspec.Struct, tag_field="e", tag="listenKeyExpired", rename={"key": "listenKey"}):
    key: str = ""


PrivateFrame = OrderUpdate | AccountUpdate | AlgoUpdate | ConfigUpdate | MarginCall | KeyExpired
PRIVATE_FRAME = msgspec.json.Decoder(PrivateFrame)
EVENT = msgspec.json.Decoder(Reply)
