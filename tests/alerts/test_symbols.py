"""One instrument, many spellings."""

import pytest

from app.alerts.symbols import normalise
from app.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("BTCUSDT", "BTCUSDT"),
        ("BTCUSDT.P", "BTCUSDT"),
        ("BYBIT:BTCUSDT.P", "BTCUSDT"),
        ("BYBIT:BTCUSDT", "BTCUSDT"),  # the spot chart
        ("BINANCE:BTCUSDTPERP", "BTCUSDT"),
        ("BTC/USDT:USDT", "BTCUSDT"),
        ("BTC/USDT", "BTCUSDT"),
        ("BTC-USDT", "BTCUSDT"),
        ("BTC-USDT-SWAP", "BTCUSDT"),
        ("BTC_USDT", "BTCUSDT"),
        ("BYBIT:BTC_USDT.P", "BTCUSDT"),
        (" btcusdt.p ", "BTCUSDT"),
        ("BINANCE:1000PEPEUSDT.P", "1000PEPEUSDT"),
        ("PERPUSDT.P", "PERPUSDT"),  # a coin of that name
    ],
)
def test_spellings_of_one_instrument(text: str, symbol: str) -> None:
    assert normalise(text, "symbol") == symbol


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("BYBIT:BTCUSD.P", "wrong_market"),  # inverse
        ("BTCUSD", "wrong_market"),
        ("BTC/USD:BTC", "wrong_market"),
        ("BTC/USDT:BTC", "wrong_market"),
        ("BYBIT:ETHUSDC.P", "wrong_market"),
        ("BTCPERP", "wrong_market"),  # settled in USDC
        ("ETH-PERP", "wrong_market"),
        ("USDT_BTC", "wrong_market"),  # quote first
        ("BTCUSDT_240628", "wrong_market"),  # dated
        ("OSE:NK225M1!", "wrong_market"),
        ("ES1!", "wrong_market"),
        ("AAPL", "wrong_market"),
        ("USDT", "wrong_market"),
        ("", "bad_symbol"),
        ("BTC USDT", "bad_symbol"),
        ("BTCUSDT.P.P", "bad_symbol"),
        ("ВТСUSDT", "bad_symbol"),  # Cyrillic letters
        ("ＢＴＣＵＳＤＴ", "bad_symbol"),
        ("A" * 61, "bad_symbol"),
        ("BTCUSDT;DROP", "bad_symbol"),
    ],
)
def test_other_markets_and_riddles_are_refused(text: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalise(text, "ticker")
    assert (refused.value.code, refused.value.field) == (code, "ticker")
