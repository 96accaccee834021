"""The many spellings of one instrument -> the venue's name of its USDT perpetual.

Only the spelling is settled here; whether the venue lists the instrument is asked of its instrument list later. So
nothing is translated that needs the list: neither a multiplied contract (1000PEPEUSDT, SHIB1000USDT), whose factor is
part of its name, nor another exchange's name of a coin (XBT).
"""

import re

from app.alerts.codes import AlertCode
from app.alerts.lookalikes import hint
from app.errors import InvalidInput

SYMBOL_LENGTH_MAX = 60
NAME_LENGTH_MAX = 30  # of the venue's name: the longest have 20, and a secret is longer

_EXCHANGE = r"(?:[A-Z0-9_]+:)?"
_PERPETUAL = r"(?:\.P|\.PERP|[-_]?PERP|-SWAP)?"
# BYBIT:BTCUSDT.P, BINANCE:BTCUSDTPERP, BTCUSDT, 1000PEPEUSDT.P
_JOINED = re.compile(rf"{_EXCHANGE}(?P<name>[A-Z0-9]+?){_PERPETUAL}")
# BTC/USDT, BTC/USDT:USDT (ccxt), BTC-USDT, BTC-USDT-SWAP (OKX), BTC_USDT, BTC_USDT.P
_PAIR = re.compile(rf"{_EXCHANGE}(?P<base>[A-Z0-9]+)[/_-](?P<quote>[A-Z0-9]+?)(?::(?P<settle>[A-Z0-9]+))?{_PERPETUAL}")
# Quote first: USDT_BTC and USDT_BTCUSDT (3Commas), BYBI_USDT_SOL (Altrady, the exchange in front). With `_` alone:
# `/` and `-` have the base in front wherever they are written.
_QUOTE_FIRST = re.compile(rf"{_EXCHANGE}(?:[A-Z0-9]+_)?USDT_(?P<base>[A-Z0-9]+?)(?:USDT)?{_PERPETUAL}")
# BYBI_USD_BTC: the same of other markets
_OTHER_QUOTE_FIRST = re.compile(r"[A-Z0-9]+_(?P<quote>USDC?)_[A-Z0-9]+")
# BTCUSDT_260626 (Binance), BTCUSDT-26JUN26 (Bybit), BTC/USDT:USDT-260626 (ccxt): they end on a day
_DATED = re.compile(r"[A-Z0-9_/:]+[-_](?:[0-9]{6}|[0-9]{1,2}[A-Z]{3}[0-9]{2})")
# ES1!, NK225M1!: continuous futures of other exchanges
_CONTINUOUS = re.compile(rf"{_EXCHANGE}[A-Z0-9]+[0-9]!")


def normalise(text: str, field: str) -> str:
    """`BYBIT:BTCUSDT.P` -> `BTCUSDT`. Raises InvalidInput: `bad_symbol` or `wrong_market`.

    A name without `.P` is the chart of the spot market; many people chart spot and trade the perpetual, and nothing
    but perpetuals is traded here, so it names the perpetual. A name without a quote currency (ETH-PERP) is refused:
    completing it would be a guess, and at Bybit ETHPERP is the contract in USDC.
    """
    symbol = text.strip()
    if not symbol or not symbol.isascii() or len(symbol) > SYMBOL_LENGTH_MAX:
        raise _unreadable(text, field)
    symbol = symbol.upper()
    if joined := _JOINED.fullmatch(symbol):
        name = joined["name"]
        if not name.endswith("USDT") or name == "USDT":
            raise _wrong_market(text, field, _why_not(name))
        return _checked(name, text, field)
    if _CONTINUOUS.fullmatch(symbol):
        raise _wrong_market(text, field, "it is a continuous future of another exchange")
    if _DATED.fullmatch(symbol):
        raise _wrong_market(text, field, "it is a future that ends on a day")
    if (first := _QUOTE_FIRST.fullmatch(symbol)) and first["base"] != "USDT":
        return _checked(first["base"] + "USDT", text, field)
    if pair := _PAIR.fullmatch(symbol):
        base, quote, settle = pair["base"], pair["quote"], pair["settle"]
        if quote != "USDT" or base == "USDT":
            raise _wrong_market(text, field, _why_not(quote))
        if settle not in (None, "USDT"):
            raise _wrong_market(text, field, f"it is settled in {settle}")
        return _checked(base + "USDT", text, field)
    if other := _OTHER_QUOTE_FIRST.fullmatch(symbol):
        raise _wrong_market(text, field, _why_not(other["quote"]))
    raise _unreadable(text, field)


def _checked(name: str, text: str, field: str) -> str:
    if len(name) > NAME_LENGTH_MAX:
        raise _unreadable(text, field)
    return name


def normalise_pair(base: str, quote: str, field: str) -> str:
    """Base and quote from fields of their own, the suffix on the quote: `BTC`, `USDT.P` -> `BTCUSDT`."""
    return normalise(f"{base.strip()}/{quote.strip()}", field)


def _why_not(name: str) -> str:
    """Why a name, or a quote currency, is none of ours."""
    if name.endswith("USDC"):
        return "it is settled in USDC"
    if name.endswith("USD"):
        return "it is quoted in USD, so coin-margined or a spot market"
    return "it does not name USDT as its quote currency"


def _unreadable(text: str, field: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.BAD_SYMBOL,
        f"{text[:40]!r} can't be read as a symbol; write for example BYBIT:BTCUSDT.P." + hint(text[:40]),
        field,
    )


def _wrong_market(text: str, field: str, why: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.WRONG_MARKET,
        f"{text[:40]!r} is not a USDT perpetual: {why}. Nothing else is traded here; "
        "put the alert on a chart such as BTCUSDT.P.",
        field,
    )
