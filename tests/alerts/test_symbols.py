"""One instrument, many spellings."""

import pytest

from app.alerts.recognise import read
from app.alerts.symbols import normalise, normalise_pair
from app.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("BTCUSDT", "BTCUSDT"),
        ("BTCUSDT.P", "BTCUSDT"),
        ("BYBIT:BTCUSDT.P", "BTCUSDT"),
        ("BINANCE:BTCUSDT.P", "BTCUSDT"),
        ("BYBIT:BTCUSDT", "BTCUSDT"),  # the spot chart
        ("BINANCE:BTCUSDT", "BTCUSDT"),
        ("BYBIT_DL:BTCUSDT.P", "BTCUSDT"),  # a delayed feed
        ("BINANCE:BTCUSDTPERP", "BTCUSDT"),
        ("BTCUSDT.PERP", "BTCUSDT"),
        ("BTCUSDT-PERP", "BTCUSDT"),
        ("BTCUSDT_PERP", "BTCUSDT"),
        ("BTC/USDT:USDT", "BTCUSDT"),
        ("BTC/USDT", "BTCUSDT"),
        ("BTC-USDT", "BTCUSDT"),
        ("BTC-USDT-SWAP", "BTCUSDT"),
        ("BTC-USDT-PERP", "BTCUSDT"),
        ("BTC_USDT", "BTCUSDT"),
        ("BYBIT:BTC_USDT.P", "BTCUSDT"),
        ("USDT_BTC", "BTCUSDT"),  # quote first
        ("usdt_btc", "BTCUSDT"),
        ("USDT_BTCUSDT", "BTCUSDT"),
        ("USDT_1000PEPE", "1000PEPEUSDT"),
        ("BYBI_USDT_SOL", "SOLUSDT"),
        ("BINANCE:USDT_BTC", "BTCUSDT"),
        (" btcusdt.p ", "BTCUSDT"),
        ("bybit:btcusdt.p", "BTCUSDT"),
        ("btc/usdt:usdt", "BTCUSDT"),
        ("BINANCE:1000PEPEUSDT.P", "1000PEPEUSDT"),  # the factor is part of the name
        ("BYBIT:SHIB1000USDT.P", "SHIB1000USDT"),
        ("BYBIT:10000SATSUSDT.P", "10000SATSUSDT"),
        ("PERPUSDT.P", "PERPUSDT"),  # a coin of that name
        ("PERP_USDT", "PERPUSDT"),
        ("BUSDT", "BUSDT"),  # a coin of one letter
        ("XBTUSDT.P", "XBTUSDT"),  # the list of instruments says whether there is such a thing
    ],
)
def test_spellings_of_one_instrument(text: str, symbol: str) -> None:
    assert normalise(text, "symbol") == symbol


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("BYBIT:BTCUSD.P", "wrong_market", "coin-margined"),
        ("BINANCE:BTCUSD.P", "wrong_market", "coin-margined"),
        ("BTCUSD", "wrong_market", "coin-margined"),
        ("BTCUSD_PERP", "wrong_market", "coin-margined"),
        ("XBTUSD", "wrong_market", "coin-margined"),
        ("BTC/USD:BTC", "wrong_market", "coin-margined"),
        ("BTC/USDT:BTC", "wrong_market", "settled in BTC"),
        ("BYBIT:ETHUSDC.P", "wrong_market", "USDC"),
        ("BTC-USDC-SWAP", "wrong_market", "USDC"),
        ("ETH/USDC:USDC", "wrong_market", "USDC"),
        ("BTCPERP", "wrong_market", "does not name USDT"),  # at Bybit the contract in USDC
        ("ETH-PERP", "wrong_market", "does not name USDT"),
        ("USDT/BTC", "wrong_market", "does not name USDT"),  # here the base stands first
        ("USDT-BTC", "wrong_market", "does not name USDT"),
        ("USDT_PERP", "wrong_market", "does not name USDT"),
        ("BTCUSDT_260626", "wrong_market", "ends on a day"),
        ("BTCUSDT-26JUN26", "wrong_market", "ends on a day"),
        ("BTC/USDT:USDT-260626", "wrong_market", "ends on a day"),
        ("OSE:NK225M1!", "wrong_market", "continuous"),
        ("ES1!", "wrong_market", "continuous"),
        ("AAPL", "wrong_market", "does not name USDT"),
        ("USDT", "wrong_market", "does not name USDT"),
        ("USDT_USDT", "wrong_market", "does not name USDT"),
        ("", "bad_symbol", "can't be read"),
        ("BTC USDT", "bad_symbol", "can't be read"),
        ("BTCUSDT.P.P", "bad_symbol", "can't be read"),
        ("ВТСUSDT", "bad_symbol", "can't be read"),  # Cyrillic letters
        ("ＢＴＣＵＳＤＴ", "bad_symbol", "can't be read"),
        ("A" * 61, "bad_symbol", "can't be read"),
        ("BTCUSDT;DROP", "bad_symbol", "can't be read"),
        ("_USDT_BTC", "bad_symbol", "can't be read"),
        ("BYBI_USD_BTC", "wrong_market", "quoted in USD"),
        ("BYBI_BTC_USDT", "bad_symbol", "can't be read"),
    ],
)
def test_other_markets_and_riddles_are_refused_with_a_reason(text: str, code: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        normalise(text, "ticker")
    assert (refused.value.code, refused.value.field) == (code, "ticker")


@pytest.mark.parametrize("quote", ["USDT", "USDT.P", "USDTPERP", "usdt.p", " USDT "])
def test_base_and_quote_in_fields_of_their_own(quote: str) -> None:
    assert normalise_pair("BTC", quote, "quote") == "BTCUSDT"


@pytest.mark.parametrize(
    ("base", "quote", "code"),
    [
        ("SOL", "USD", "wrong_market"),
        ("ETH", "USDC.P", "wrong_market"),
        ("BTC/USDT", "USDT", "bad_symbol"),
        ("", "USDT", "bad_symbol"),
    ],
)
def test_a_pair_of_another_market_is_refused(base: str, quote: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalise_pair(base, quote, "quote")
    assert (refused.value.code, refused.value.field) == (code, "quote")


def test_a_native_alert_may_name_base_and_quote_apart() -> None:
    body = b'{"secret": "x", "base": "BTC", "quote": "USDT.P", "action": "close"}'
    assert read(body, "application/json", path_secret=None).signal.symbol == "BTCUSDT"
    with pytest.raises(InvalidInput) as refused:
        read(b'{"secret": "x", "base": "SOL", "quote": "USD", "action": "close"}', "text/plain", path_secret=None)
    assert (refused.value.code, refused.value.field) == ("wrong_market", "quote")
