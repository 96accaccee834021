"""Frames of Bybit's sockets as they travel; see `wire` for how numbers are read."""

from decimal import Decimal

import msgspec
from msgspec import UNSET, UnsetType

from app.venues.base import Trade
from app.venues.bybit.wire import ExecutionRow

# public


class TradeRow(
    Trade,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"symbol": "s", "trade_id": "i", "price": "p", "at_ms": "T"},
):
    """A public trade under the short names of the wire. It *is* a Trade, so that a tick is decoded and not copied."""

    symbol: str
    trade_id: str
    price: Decimal
    at_ms: int


class Ticker(msgspec.Struct):
    """A snapshot, or what changed since: what is absent is unchanged, and "" is "no price"."""

    symbol: str = ""
    markPrice: str | UnsetType | None = UNSET
    bid1Price: str | UnsetType | None = UNSET
    ask1Price: str | UnsetType | None = UNSET


class TickerFrame(msgspec.Struct):
    topic: str
    type: str
    data: Ticker
    ts: int
    cs: int | None = None  # grows with each frame of a symbol, within a connection


class SomeRow(msgspec.Struct):
    """A row that is an object and not a list: its frame has to be decoded for what it is."""


class PublicFrame(msgspec.Struct):
    """Any frame of the public socket: trades, some other topic's row, or the answer to an operation (`op`).

    It has what trades need and no more: nearly all frames are theirs.
    """

    topic: str = ""
    data: list[TradeRow] | SomeRow | None = None
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""


class LooseFrame(msgspec.Struct):
    """The same with rows left as they are, for a frame of which a row can't be read."""

    topic: str = ""
    data: list[msgspec.Raw] = []


PUBLIC_FRAME = msgspec.json.Decoder(PublicFrame)
TICKER_FRAME = msgspec.json.Decoder(TickerFrame, strict=False)  # some topics quote their times
LOOSE_FRAME = msgspec.json.Decoder(LooseFrame)
TRADE_ROW = msgspec.json.Decoder(TradeRow)

# private


class PrivateFrame(msgspec.Struct):
    """Any frame of the private socket; the shape of its rows depends on the topic."""

    topic: str = ""
    data: list[msgspec.Raw] = []
    op: str = ""
    success: bool | None = None
    ret_msg: str | None = ""


class ChangedRow(msgspec.Struct):
    """An order or a position: that it changed is all that is believed."""

    symbol: str = ""
    category: str = "linear"


class ExecutionEvent(ExecutionRow, kw_only=True):
    """A row of the execution list, of any category."""

    category: str = ""


PRIVATE_FRAME = msgspec.json.Decoder(PrivateFrame)
CHANGED_ROW = msgspec.json.Decoder(ChangedRow)
EXECUTION_EVENT = msgspec.json.Decoder(ExecutionEvent)
