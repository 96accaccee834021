"""Bodies of every format with what they mean: the example of each format's reader, and the ground that the property
tests change and damage.
"""

from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any

import msgspec

from app.domain.signal import (
    Action,
    BreakEven,
    Exits,
    PriceOrPct,
    Signal,
    Size,
    SizeUnit,
    StopLoss,
    TakeProfit,
    Target,
    Trailing,
)

SECRET = "s3cr3t-ABCDEFGH"
SENT = "2026-02-03T04:05:06Z"
AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)

Body = dict[str, Any] | list[dict[str, Any]] | str


class Example(msgspec.Struct, frozen=True):
    """`format` reads `body` as `signals`; `later` if this version then refuses to carry it out."""

    format: str
    body: Body
    signals: tuple[Signal, ...]
    later: bool = False


def sig(wish: Action | Target, symbol: str = "BTCUSDT", **more: Any) -> Signal:
    named: dict[str, Any] = {"target": wish} if isinstance(wish, Target) else {"action": wish}
    return Signal(symbol=symbol, **named, **more)


def size(unit: SizeUnit, value: str) -> Size:
    return Size(unit=unit, value=D(value))


def base(value: str) -> Size:
    return size(SizeUnit.BASE, value)


def quote(value: str) -> Size:
    return size(SizeUnit.QUOTE, value)


def share(value: str) -> Size:
    return size(SizeUnit.PCT_POSITION, value)


def rung(part: str = "1", **at: str) -> TakeProfit:
    return TakeProfit(at=PriceOrPct(**{name: D(value) for name, value in at.items()}), fraction=D(part))


def stop(pct: str | None = None, price: str | None = None) -> StopLoss:
    return StopLoss(pct=None if pct is None else D(pct), price=None if price is None else D(price))


LONG, SHORT, FLAT = Target.LONG, Target.SHORT, Target.FLAT
OPEN_LONG, OPEN_SHORT = Action.OPEN_LONG, Action.OPEN_SHORT
CLOSE_LONG, CLOSE_SHORT, CLOSE = Action.CLOSE_LONG, Action.CLOSE_SHORT, Action.CLOSE


def commas(**more: Any) -> dict[str, Any]:
    return {
        "secret": SECRET, "bot_uuid": "8f", "tv_exchange": "BYBIT", "tv_instrument": "BTCUSDT.P", "timestamp": SENT,
        "max_lag": "120", **more,
    }  # fmt: skip


def commas_state(now: str, now_size: str, before: str, before_size: str, action: str, amount: str) -> dict[str, Any]:
    return commas(
        action=action,
        trigger_price="64000",
        strategy_info={
            "market_position": now, "market_position_size": now_size,
            "prev_market_position": before, "prev_market_position_size": before_size,
        },
        order={"amount": amount, "currency_type": "base"},
    )  # fmt: skip


COMMAS_AGE: dict[str, Any] = {"sent_at": AT, "max_age_s": 120}

EXAMPLES = (
    # --- 3Commas: the state decides; custom per cents are per cent, a minus only says which way
    Example(
        "threecommas",
        commas_state("short", "3", "long", "1", "sell", "4"),
        (sig(SHORT, previous=LONG, size=base("3"), price=D(64000), **COMMAS_AGE),),
    ),
    Example(
        "threecommas",
        commas_state("flat", "0", "short", "2", "buy", "2"),
        (sig(FLAT, previous=SHORT, price=D(64000), **COMMAS_AGE),),
    ),
    Example(
        "threecommas",
        commas(
            action="enter_short",
            order={"amount": 40, "currency_type": "quote", "order_type": "market"},
            take_profit={"enabled": True, "steps": [
                {"order_type": "market", "price_percent": -1.5, "volume_percent": 60},
                {"order_type": "limit", "price_percent": -3, "volume_percent": 40},
            ]},
            stop_loss={"enabled": True, "order_type": "market", "trigger_price_percent": 2},
        ),
        (
            sig(OPEN_SHORT, size=quote("40"), **COMMAS_AGE, exits=Exits(
                stop_loss=stop(pct="2"), take_profit=(rung("0.6", pct="1.5"), rung("0.4", pct="3")))),
        ),
    ),
    Example(
        "threecommas",
        commas(action="enter_long", take_profit={"enabled": False, "steps": []}, stop_loss={
            "enabled": True, "trigger_price_percent": "1", "trailing": {"enabled": True, "percent": "0.7"}}),
        (sig(OPEN_LONG, **COMMAS_AGE, exits=Exits(trailing=Trailing(distance=PriceOrPct(pct=D("0.7"))))),),
    ),
    Example(
        "threecommas",
        commas(action="exit_short", order={"amount": "30", "currency_type": "position_percent"}),
        (sig(Action.REDUCE_SHORT, size=share("30"), **COMMAS_AGE),),
    ),
    Example(
        "threecommas",
        commas(action="enter_long", order={
            "amount": "1", "currency_type": "base", "order_type": "limit", "price": "63000"}),
        (sig(OPEN_LONG, size=base("1"), limit_prices=(D(63000),), **COMMAS_AGE),),
        later=True,
    ),
    # --- 3Commas DCA: side and symbol are the strategy's, or the pair is in the body
    Example(
        "threecommas_dca",
        {"message_type": "bot", "bot_id": 7, "email_token": SECRET, "delay_seconds": 0, "pair": "USDT_BTC"},
        (sig(OPEN_LONG),),
    ),
    Example(
        "threecommas_dca",
        {"message_type": "bot", "bot_id": 7, "email_token": SECRET, "action": "close_at_market_price"},
        (sig(CLOSE_LONG),),
    ),
    Example(
        "threecommas_dca",
        {"message_type": "bot", "bot_id": 7, "email_token": SECRET, "action": "add_funds_in_quote", "volume": 25},
        (sig(Action.ADD, size=quote("25")),),
    ),
    # --- TradersPost: the sentiment is the side afterwards; a sell that stays long leaves a part
    Example(
        "traderspost",
        {"ticker": "BTCUSDT.P", "action": "buy", "sentiment": "long", "quantity": "0.4", "price": "64000",
         "time": SENT, "interval": "15"},
        (sig(OPEN_LONG, size=base("0.4"), price=D(64000), sent_at=AT, whole_order=True),),
    ),
    Example(
        "traderspost",
        {"ticker": "BTCUSDT.P", "action": "sell", "sentiment": "long", "quantity": "0.1"},
        (sig(Action.REDUCE_LONG, size=base("0.1")),),
    ),
    Example(
        "traderspost",
        {"ticker": "BTCUSDT.P", "action": "buy", "sentiment": "flat", "quantity": "9"},
        (sig(FLAT),),
    ),
    Example(
        "traderspost",
        {"ticker": "BTCUSDT.P", "action": "sell", "quantity": 200, "quantityType": "dollar_amount",
         "takeProfit": {"limitPrice": "60000"}, "stopLoss": {"type": "stop", "stopPrice": "66000"}},
        (sig(OPEN_SHORT, size=quote("200"), exits=Exits(
            stop_loss=stop(price="66000"), take_profit=(rung(price="60000"),))),),
    ),
    Example(
        "traderspost",
        {"ticker": "BTCUSDT.P", "action": "buy", "quantity": 1, "stopLoss": {"type": "trailing_stop",
         "trailPercent": "1.5"}},
        (sig(OPEN_LONG, size=base("1"), exits=Exits(trailing=Trailing(distance=PriceOrPct(pct=D("1.5"))))),),
    ),
    Example("traderspost", {"ticker": "BTCUSDT.P", "action": "exit", "quantity": "0.2"},
            (sig(Action.REDUCE, size=base("0.2")),)),
    # --- WunderTrading: fractions
    Example(
        "wundertrading",
        {"code": "Enter-Short", "orderType": "market", "amountPerTradeType": "percents", "amountPerTrade": "0.2",
         "leverage": 4, "takeProfits": [{"priceDeviation": 0.015, "portfolio": 0.5},
                                        {"priceDeviation": "0.03", "portfolio": "0.5"}],
         "stopLoss": {"priceDeviation": 0.02}, "reduceOnly": True},
        (sig(OPEN_SHORT, size=size(SizeUnit.PCT_EQUITY, "20"), leverage=D(4), exits=Exits(
            stop_loss=stop(pct="2"), take_profit=(rung("0.5", pct="1.5"), rung("0.5", pct="3")))),),
    ),
    Example("wundertrading", {"code": "EXIT-LONG_Bybit_SOLUSDT_mine_15M_8e34479c"}, (sig(CLOSE_LONG, "SOLUSDT"),)),
    Example("wundertrading", {"code": "exit-all", "reduceOnly": True}, (sig(CLOSE),)),
    Example("wundertrading", "ENTER-SHORT_KUCOIN_ETH-USDT_My bot_5M_744bde7b7594b117\n", (sig(OPEN_SHORT, "ETHUSDT"),)),
    Example("wundertrading", "EXIT-LONG_BINANCE_MULTIPLE-PAIRS_mine_5M_744bde7b7594b117", (sig(CLOSE_LONG),)),
    # --- Finandy: an opposite signal only closes; a strategy's own position side turns
    Example("finandy", {"name": "Hook", "secret": SECRET, "side": "sell", "symbol": "SOLUSDT"},
            (sig(OPEN_SHORT, "SOLUSDT", turns=False),)),
    Example("finandy", {"name": "Hook", "secret": SECRET, "side": "sell", "symbol": "SOLUSDT",
                        "positionSide": "short"}, (sig(OPEN_SHORT, "SOLUSDT"),)),
    Example("finandy", {"name": "Hook", "secret": SECRET, "side": "buy", "symbol": "SOLUSDT",
                        "positionSide": "flat"}, (sig(FLAT, "SOLUSDT"),)),
    Example("finandy", {"name": "Hook", "secret": SECRET, "side": "buy", "symbol": "SOLUSDT", "tp": {
        "orders": [{"ofs": "2", "piece": "40"}, {"ofs": "4", "piece": "60"}], "update": True}},
        (sig(OPEN_LONG, "SOLUSDT", turns=False, exits=Exits(
            take_profit=(rung("0.4", pct="2"), rung("0.6", pct="4")))),)),
    # --- TV-Hub
    Example(
        "tvhub",
        {"exchange": "bybit", "pair": "BTCUSDT", "token": SECRET, "apiKey": "main", "isBuy": "true", "isSell": False,
         "isMarket": True, "units": "0.02", "leverage": 3, "stopLoss": "1.2", "stopLossType": "percent",
         "targets": [{"idx": 1, "amount": "30", "takeProfitPercent": "1"},
                     {"idx": 2, "amount": "70", "takeProfitPercent": "2"}], "targetAmountInPercent": True},
        (sig(OPEN_LONG, size=base("0.02"), leverage=D(3), exits=Exits(
            stop_loss=stop(pct="1.2"), take_profit=(rung("0.3", pct="1"), rung("0.7", pct="2")))),),
    ),
    Example("tvhub", {"pair": "BTC-USDT-SWAP", "token": SECRET, "isSell": True, "unitsType": "percentBalance",
                      "units": 5}, (sig(OPEN_SHORT, size=size(SizeUnit.PCT_EQUITY, "5")),)),
    Example("tvhub", {"pair": "BTCUSDT", "token": SECRET, "isBuy": True, "useFixedSize": True, "fixedQuoteSize": 80},
            (sig(OPEN_LONG, size=quote("80")),)),
    Example("tvhub", {"exchange": "bybit-testnet", "pair": "BTCUSDT", "token": SECRET, "isSell": True,
                      "fixedQuoteSize": "80"}, (sig(OPEN_SHORT, size=quote("80")),)),
    Example("tvhub", {"pair": "BTCUSDT", "token": SECRET, "isClose": True, "unitsType": "percentPosition",
                      "units": "25"}, (sig(Action.REDUCE, size=share("25")),)),
    Example("tvhub", {"pair": "BTCUSDT", "token": SECRET, "isBuy": False, "isSell": False, "closeShort": True},
            (sig(CLOSE_SHORT),)),
    Example("tvhub", {"pair": "BTCUSDT", "token": SECRET, "isBuy": True, "isMarket": False, "isLimit": True,
                      "price": "63000", "unitsPercent": "10"},
            (sig(OPEN_LONG, size=size(SizeUnit.PCT_AVAILABLE, "10"), limit_prices=(D(63000),)),), later=True),
    # --- Altrady
    Example(
        "altrady",
        {"api_key": "k", "api_secret": SECRET, "action": "open", "exchange": "BIFU", "symbol": "BIFU_USDT_BTC",
         "side": "short", "quote_amount": 75, "leverage": 2, "signal_price": "64000",
         "take_profit": [{"price_percentage": 1, "position_percentage": 50},
                         {"price_percentage": 2, "position_percentage": 50}],
         "stop_loss": {"stop_percentage": 1.5, "protection_type": "BREAK_EVEN"}},
        (sig(OPEN_SHORT, size=quote("75"), leverage=D(2), price=D(64000), exits=Exits(
            stop_loss=stop(pct="1.5"), take_profit=(rung("0.5", pct="1"), rung("0.5", pct="2")),
            break_even=BreakEven(after_target=1))),),
    ),
    Example("altrady", {"api_key": "k", "api_secret": SECRET, "action": "close", "symbol": "BYBI_USDT_BTC",
                        "side": "long"}, (sig(CLOSE_LONG),)),
    Example("altrady", {"api_key": "k", "api_secret": SECRET, "action": "reduce", "symbol": "BYBI_USDT_BTC",
                        "side": "long", "quote_amount": "20"}, (sig(Action.REDUCE_LONG, size=quote("20")),)),
    Example("altrady", {"api_key": "k", "api_secret": SECRET, "action": "increase", "symbol": "BYBI_USDT_BTC",
                        "quote_amount": "20"}, (sig(Action.ADD, size=quote("20")),)),
    # --- Gainium
    Example("gainium", {"action": "startDeal", "uuid": "b0"}, (sig(OPEN_LONG),)),
    Example("gainium", {"action": "closeDealSl", "uuid": "b0", "symbol": "ETH_USDT"}, (sig(CLOSE_LONG, "ETHUSDT"),)),
    Example("gainium", {"action": "reduceFunds", "uuid": "b0", "qty": "20", "type": "perc"},
            (sig(Action.REDUCE_LONG, size=share("20")),)),
    Example("gainium", [{"action": "exitShort", "uuid": "b0"}, {"action": "enterLong", "uuid": "b1"}],
            (sig(CLOSE_SHORT), sig(OPEN_LONG))),
    Example("gainium", [{"action": "startDeal", "uuid": "b0"},
                        {"action": "addFunds", "uuid": "b0", "qty": "5", "type": "fixed", "asset": "base"}],
            (sig(OPEN_LONG), sig(Action.ADD, size=base("5")))),
    # --- OKX
    Example(
        "okx",
        {"action": "ENTER_SHORT", "instrument": "BTC-USDT-SWAP", "signalToken": SECRET, "timestamp": SENT,
         "orderType": "market", "orderPriceOffset": "", "investmentType": "base", "amount": "0.3"},
        (sig(OPEN_SHORT, size=base("0.3"), sent_at=AT, max_age_s=60),),
    ),
    Example(
        "okx",
        {"id": "Long", "action": "sell", "marketPosition": "short", "prevMarketPosition": "long",
         "marketPositionSize": "2", "prevMarketPositionSize": "1", "instrument": "BTCUSDT.P", "signalToken": SECRET,
         "timestamp": SENT, "maxLag": "20", "investmentType": "base", "amount": "3"},
        (sig(SHORT, previous=LONG, size=base("2"), sent_at=AT, max_age_s=20),),
    ),
    Example("okx", {"id": "TP", "action": "buy", "marketPosition": "short", "prevMarketPosition": "short",
                    "instrument": "BTCUSDT.P", "signalToken": SECRET, "investmentType": "percentage_position",
                    "amount": "30"}, (sig(Action.REDUCE_SHORT, size=share("30"), max_age_s=60),)),
    # a share of the balance is the order's own size, whatever the chart counts
    Example("okx", {"id": "Short", "action": "sell", "marketPosition": "short", "prevMarketPosition": "long",
                    "marketPositionSize": "1", "prevMarketPositionSize": "2", "instrument": "BTCUSDT.P",
                    "signalToken": SECRET, "investmentType": "percentage_balance", "amount": "30"},
            (sig(OPEN_SHORT, previous=LONG, size=size(SizeUnit.PCT_EQUITY, "30"), max_age_s=60),)),
    Example("okx", {"id": "Long 2", "action": "buy", "marketPosition": "long", "prevMarketPosition": "long",
                    "instrument": "BTCUSDT.P", "signalToken": SECRET, "investmentType": "percentage_balance",
                    "amount": "5"},
            (sig(Action.ADD, previous=LONG, size=size(SizeUnit.PCT_EQUITY, "5"), max_age_s=60),)),
    Example("okx", {"id": "Close", "action": "buy", "marketPosition": "flat", "prevMarketPosition": "short",
                    "instrument": "BTCUSDT.P", "signalToken": SECRET, "investmentType": "contract", "amount": "1"},
            (sig(FLAT, previous=SHORT, max_age_s=60),)),
    Example("okx", {"action": "EXIT_SHORT", "instrument": "BTC-USDT-SWAP", "signalToken": SECRET, "timestamp": SENT},
            (sig(CLOSE_SHORT, sent_at=AT, max_age_s=60),)),
    # --- Alertatron
    Example("alertatron", {"side": "short", "amount": "10%", "takeProfit": "True", "takeProfitOffset": "3%",
                           "stopLoss": False},
            (sig(OPEN_SHORT, nets=True, size=size(SizeUnit.PCT_EQUITY, "10"),
                 exits=Exits(take_profit=(rung(pct="3"),))),)),
    Example("alertatron", {"side": "close"}, (sig(CLOSE),)),
    Example(
        "alertatron",
        "Bybit(BTCUSDT) {\n  # flat first\n  cancel(which=all);\n  market(side=sell, amount=0.5);\n"
        "  stopOrder(side=buy, amount=100%p, offset=e2%, reduceOnly=true);\n"
        "  limit(side=buy, amount=40%p, offset=e1%, reduceOnly=true);\n"
        "  limit(side=buy, amount=60%p, offset=@60000, reduceOnly=true);\n}\n#bot",
        (sig(OPEN_SHORT, nets=True, size=base("0.5"), exits=Exits(
            stop_loss=stop(pct="2"), take_profit=(rung("0.4", pct="1"), rung("0.6", price="60000")))),),
    ),
    Example("alertatron", "Bybit(BTCUSDT) { market(position=0); }\n#bot", (sig(FLAT),)),
    Example("alertatron", "Bybit(BTCUSDT) { market(position=-2); } #bot", (sig(SHORT, size=base("2")),)),
    Example("alertatron", "Bybit(BTCUSDT) { market(side=sell, amount=50%p, reduceOnly=true); }",
            (sig(Action.REDUCE_LONG, size=share("50")),)),
    Example("alertatron", "BTC broke out\nBybit(BTCUSDT) { market(position=0); }\nBybit(ETHUSDT) {\n"
            "  market(side=buy, amount=0.5);\n}\n#bot",
            (sig(FLAT), sig(OPEN_LONG, "ETHUSDT", nets=True, size=base("0.5")))),
    # --- OctoBot
    Example("octobot", "EXCHANGE=BYBIT;SYMBOL=BTCUSDT.P;SIGNAL=SELL;VOLUME=10%;LEVERAGE=3;STOP_PRICE=2%",
            (sig(OPEN_SHORT, nets=True, size=size(SizeUnit.PCT_EQUITY, "10"), leverage=D(3),
                 exits=Exits(stop_loss=stop(pct="2"))),)),
    Example(
        "octobot",
        "symbol=BTCUSDT\r\nsignal=buy\r\nVOLUME=100q\r\nTAKE_PROFIT_PRICE_1=70000\r\nTAKE_PROFIT_PRICE_2=75000\r\n"
        f"TAKE_PROFIT_VOLUME_RATIO_1=1\r\nTAKE_PROFIT_VOLUME_RATIO_2=3\r\nSTOP_PRICE=60000\r\nTOKEN={SECRET}",
        (sig(OPEN_LONG, nets=True, size=quote("100"), exits=Exits(stop_loss=stop(price="60000"), take_profit=(
            rung("0.25", price="70000"), rung("0.75", price="75000")))),),
    ),
    Example("octobot", "SYMBOL=BTCUSDT\\nSIGNAL=SELL\\nREDUCE_ONLY=true\\nVOLUME=40p%",
            (sig(Action.REDUCE_LONG, size=share("40")),)),
    Example("octobot", "SYMBOL=BTCUSDT\nSIGNAL=BUY\nORDER_TYPE=LIMIT\nPRICE=61000\nVOLUME=0.1",
            (sig(OPEN_LONG, nets=True, size=base("0.1"), limit_prices=(D(61000),)),), later=True),
    # --- Autoview
    Example("autoview", "e=bybit a=main s=btcusdt b=sell q=2.5 l=4 t=market & sl=2% & tp=3%",
            (sig(OPEN_SHORT, nets=True, size=base("2.5"), leverage=D(4), exits=Exits(
                stop_loss=stop(pct="2"), take_profit=(rung(pct="3"),))),)),
    Example("autoview", "e=bybit s=btcusdt b=long q=1 t=market fsl=61000 ftp=70000",
            (sig(OPEN_LONG, nets=True, size=base("1"), exits=Exits(
                stop_loss=stop(price="61000"), take_profit=(rung(price="70000"),))),)),
    Example("autoview", "e=bybit s=btcusdt c=position b=short cm=50% t=market",
            (sig(Action.REDUCE_SHORT, size=share("50")),)),
    Example("autoview", "s=btcusdt c=position t=market|s=btcusdt b=long q=10% y=equity t=market",
            (sig(CLOSE), sig(OPEN_LONG, nets=True, size=size(SizeUnit.PCT_EQUITY, "10")))),
    # --- PineConnector: units are settings elsewhere, so only what has none
    Example("pineconnector", "60123456789,closelong,BTCUSDT,comment=bye", (sig(CLOSE_LONG),)),
    Example("pineconnector", "60123456789,bearish,BTCUSDT", (sig(OPEN_SHORT),)),
    # --- Cornix
    Example(
        "cornix",
        "🔥 #SOL/USDT\nLong setup\nEntry: market\nTake-Profit: 160 170 180\nStop: 140\nLeverage: 10х\nAmount: 3%",
        (sig(OPEN_LONG, "SOLUSDT", size=size(SizeUnit.PCT_EQUITY, "3"), leverage=D(10), exits=Exits(
            stop_loss=stop(price="140"), take_profit=(
                rung("0.3333", price="160"), rung("0.3333", price="170"), rung("0.3334", price="180")))),),
    ),
    Example(
        "cornix",
        "ETH/USDT\nBuy 2000 - 2050\nSell targets:\n1) 1900\n2) 1800\nStop 2150",
        (sig(OPEN_SHORT, "ETHUSDT", limit_prices=(D(2000), D(2050)), exits=Exits(
            stop_loss=stop(price="2150"), take_profit=(rung("0.5", price="1900"), rung("0.5", price="1800")))),),
        later=True,
    ),
    Example(
        "cornix",
        "Exchange: ByBit USDT\nPair SOLUSDT.P\nShort\nEntry: CMP\nTP1: 120 50%\nTP 2) 110 50%\nSL: 150.5",
        (sig(OPEN_SHORT, "SOLUSDT", exits=Exits(stop_loss=stop(price="150.5"), take_profit=(
            rung("0.5", price="120"), rung("0.5", price="110")))),),
    ),
    # --- freqtrade
    Example("freqtrade", {"pair": "ETH/USDT:USDT", "side": "long", "ordertype": "market", "stakeamount": "40",
                          "entry_tag": "x"}, (sig(OPEN_LONG, "ETHUSDT", size=quote("40")),)),
    Example("freqtrade", {"tradeid": "12", "ordertype": "market"}, (sig(CLOSE_LONG),)),
    Example("freqtrade", {"pair": "ETH/USDT", "side": "short", "ordertype": "limit", "price": 2100},
            (sig(OPEN_SHORT, "ETHUSDT", limit_prices=(D(2100),)),), later=True),
    # --- POABOT
    Example("poabot", {"password": SECRET, "exchange": "BYBIT", "base": "SOL", "quote": "USDTPERP",
                       "side": "entry/sell", "amount": "3", "leverage": "2"},
            (sig(OPEN_SHORT, "SOLUSDT", size=base("3"), leverage=D(2)),)),
    Example("poabot", {"password": SECRET, "base": "SOL", "quote": "USDT.P", "side": "close/buy", "percent": "40"},
            (sig(Action.REDUCE_SHORT, "SOLUSDT", size=share("40")),)),
    Example("poabot", {"password": SECRET, "base": "SOL", "quote": "USDT.P", "side": "entry/sell", "amount": "NaN",
                       "percent": "8", "price": "NaN", "leverage": "NaN", "stop_price": "160", "profit_price": "120"},
            (sig(OPEN_SHORT, "SOLUSDT", size=size(SizeUnit.PCT_EQUITY, "8"), exits=Exits(
                stop_loss=stop(price="160"), take_profit=(rung(price="120"),))),)),
    Example("poabot", {"password": SECRET, "base": "SOL", "quote": "USDT.P", "side": "entry/buy", "percent": 15},
            (sig(OPEN_LONG, "SOLUSDT", size=size(SizeUnit.PCT_EQUITY, "15")),)),
    # --- others whose shapes are in use
    Example(
        "hypertrade",
        {"general": {"ticker": "SOLUSDT.P", "timenow": SENT, "secret": SECRET, "leverage": "3x", "nonce": "n-1"},
         "currency": {"base": "SOL", "quote": "USDT"},
         "order": {"action": "sell", "contracts": "4", "price": "150", "id": "TP", "alert_message": ""},
         "market": {"position": "long", "position_size": "6", "previous_position": "long",
                    "previous_position_size": "10"}},
        (sig(LONG, "SOLUSDT", previous=LONG, size=base("6"), leverage=D(3), price=D(150), sent_at=AT),),
    ),
    Example("pionex", {"data": {"action": "sell", "contracts": "2", "position_size": "-2"}, "price": "150",
                       "signal_param": "{}", "signal_type": "u-u", "symbol": "SOLUSDT.P", "time": SENT},
            (sig(SHORT, "SOLUSDT", size=base("2"), price=D(150), sent_at=AT),)),
    Example("cryptognome", {"key": SECRET, "exchange": "bybit", "symbol": "ETHUSDT", "type": "Market", "side": "Sell",
                            "qty": "2", "close_position": "False", "cancel_orders": "True", "order_mode": "Stop",
                            "take_profit_percent": "1", "stop_loss_percent": "0.8"},
            (sig(OPEN_SHORT, "ETHUSDT", nets=True, size=base("2"), exits=Exits(stop_loss=stop(pct="0.8"))),)),
    Example("alerts_processor", {"stub": "main", "direction": "short", "symbol": "SOL/USDT", "size": "8%",
                                 "mode": "reverse"},
            (sig(OPEN_SHORT, "SOLUSDT", size=size(SizeUnit.PCT_AVAILABLE, "8")),)),
    Example("alerts_processor", {"stub": "main", "direction": "close", "symbol": "SOL/USDT", "size": "30%"},
            (sig(Action.REDUCE, "SOLUSDT", size=share("30")),)),
    Example("bybit_hook", {"action": "exit_short", "symbol": "SOLUSDT", "qty": 12},
            (sig(Action.REDUCE_SHORT, "SOLUSDT", size=base("12")),)),
    Example("textline", "close SOLUSDT.P QTY:2", (sig(Action.REDUCE, "SOLUSDT", size=base("2")),)),
    Example("textline", "sell SOLUSDT.P QTY:3 SL:180 TP:120",
            (sig(OPEN_SHORT, "SOLUSDT", size=base("3"), exits=Exits(
                stop_loss=stop(price="180"), take_profit=(rung(price="120"),))),)),
    # --- a script's own message inside a TradingView template
    Example(
        "tradingview",
        {"ticker": "BTCUSDT.P", "order_action": "buy", "order_contracts": "1", "position_size": "1",
         "timenow": SENT, "order_alert_message": '"order_type": "enter_long", "take_profit_price": "70000"'},
        (sig(LONG, size=base("1"), sent_at=AT, exits=Exits(take_profit=(rung(price="70000"),))),),
    ),
    Example(
        "tradingview",
        {"ticker": "BTCUSDT.P", "market_position": "flat", "alert_message": '{"order_type": "exit_long"}'},
        (sig(FLAT),),
    ),
    Example(
        "native",
        [{"symbol": "BTCUSDT", "action": "close", "secret": SECRET}, {"symbol": "ETHUSDT", "action": "sell"}],
        (sig(CLOSE), sig(OPEN_SHORT, "ETHUSDT")),
    ),
)  # fmt: skip
