"""The many spellings of one instrument -> the venue's name of its USDT perpetual.

Only the spelling is settled here; whether the venue lists the instrument is asked of its instrument list later.
"""

import re

from app.alerts.codes import AlertCode
from app.errors import InvalidInput

SYMBOL_LENGTH_MAX = 60

# BYBIT:BTCUSDT.P, BINANCE:BTCUSDTPERP, BTCUSDT, 1000PEPEUSDT.P
_JOINED = re.compile(r"(?:[A-Z0-9_]+:)?(?P<name>[A-Z0-9]+?)(?:\.P|\.PERP|PERP)?")
# BTC/USDT, BTC/USDT:USDT (ccxt), BTC-USDT, BTC-USDT-SWAP (OKX), BTC_USDT, BTC_USDT.P
_PAIR = re.compile(
    r"(?:[A-Z0-9_]+:)?(?P<base>[A-Z0-9]+)[/_-](?P<quote>[A-Z0-9]+?)"
    r"(?::(?P<settle>[A-Z0-9]+))?(?:\.P|\.PERP|PERP|-SWAP|-PERP)?"
)
# ES1!, NK225M1!: continuous futures of other exchanges
_CONTINUOUS = re.compile(r"(?:[A-Z0-9_]+:)?[A-Z0-9]+[0-9]!")


def normalise(text: str, field: str) -> str:
    """`BYBIT:BTCUSDT.P` -> `BTCUSDT`. Raises InvalidInput: `bad_symbol` or `wrong_market`.

    A name without `.P` is the chart of the spot market; many people chart spot and trade the perpetual, and nothing
    but perpetuals is traded here, so it names the perpetual.
    """
    symbol = text.strip()
    if not symbol or not symbol.isascii() or len(symbol) > SYMBOL_LENGTH_MAX:
        raise _unreadable(text, field)
    symbol = symbol.upper()
    if _CONTINUOUS.fullmatch(symbol):
        raise _wrong_market(text, field)
    if joined := _JOINED.fullmatch(symbol):
        name = joined["name"]
        if not name.endswith("USDT") or name == "USDT":
            raise _wrong_market(text, field)
        return name
    if pair := _PAIR.fullmatch(symbol):
        if pair["quote"] != "USDT" or pair["settle"] not in (None, "USDT") or pair["base"] == "USDT":
            raise _wrong_market(text, field)
        return pair["base"] + "USDT"
    raise _unreadable(text, field)


def _unreadable(text: str, field: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.BAD_SYMBOL, f"{text[:40]!r} can't be read as a symbol; write for example BYBIT:BTCUSDT.P.", field
    )


def _wrong_market(text: str, field: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.WRONG_MARKET,
        f"{text[:40]!r} is not a USDT perpetual, and nothing else is traded here; "
        "put the alert on a chart such as BTCUSDT.P.",
        field,
    )
