"""Decoders over recorded payloads of Binance, where there are some: LEVELHEAD_SHARED_EXCHANGES names their folder."""

import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.domain.order import OrderStatus, PositionSide
from app.domain.position import FillOrigin
from app.venues.binance import frames, rows, wire
from app.venues.binance.codes import CODES
from app.venues.binance.private import execution
from app.venues.binance.rules import LEVERAGE_MAX, rule

_SHARED = os.environ.get("LEVELHEAD_SHARED_EXCHANGES")
FOLDER = Path(_SHARED or "nowhere") / "fixtures" / "binance"

pytestmark = pytest.mark.skipif(_SHARED is None, reason="LEVELHEAD_SHARED_EXCHANGES is not set")


def files(pattern: str) -> list[Path]:
    return sorted(FOLDER.glob(pattern)) if _SHARED else []


def names(path: Path) -> str:
    return path.stem


def instruments(row: wire.ExchangeInfo) -> object:
    return [rule(found, LEVERAGE_MAX) for found in row.symbols]


READERS: dict[str, Callable[[bytes], object]] = {
    "account_config": lambda body: rows.permissions(wire.ACCOUNT_CONFIG.decode(body), None),
    "account_v2": lambda body: rows.equity(wire.ACCOUNT.decode(body), multi_assets=False),
    "account_v3": lambda body: rows.equity(wire.ACCOUNT.decode(body), multi_assets=False),
    "algo_all_docs": wire.ALGOS.decode,
    "algo_open_close_position_pair": wire.ALGOS.decode,
    "algo_open_docs": wire.ALGOS.decode,
    "exchange_info_5": lambda body: instruments(wire.EXCHANGE_INFO.decode(body)),
    "exchange_info_demo_2026": lambda body: instruments(wire.EXCHANGE_INFO.decode(body)),
    "klines_5m": lambda body: [rows.candle(row) for row in wire.CANDLES.decode(body)],
    "klines_docs": lambda body: [rows.candle(row) for row in wire.CANDLES.decode(body)],
    "leverage_bracket": wire.BRACKETS.decode,
    "listen_key": wire.LISTEN_KEY.decode,
    "listen_key_keepalive": wire.LISTEN_KEY.decode,
    "order_new_limit_ack": wire.PLACED.decode,
    "order_new_limit_ioc_result_expired_partial": lambda body: rows.report(wire.ORDER.decode(body)),
    "order_new_market_ack": lambda body: rows.report(wire.ORDER.decode(body)),
    "order_new_market_result_filled": lambda body: rows.report(wire.ORDER.decode(body)),
    "order_query_docs": lambda body: rows.report(wire.ORDER.decode(body)),
    "order_query_filled": lambda body: rows.report(wire.ORDER.decode(body)),
    "position_risk_v2_hedge": lambda body: [rows.holding(row, []) for row in wire.POSITIONS.decode(body)],
    "position_risk_v2_oneway_flat": lambda body: [rows.holding(row, []) for row in wire.POSITIONS.decode(body)],
    "position_risk_v3_hedge": lambda body: [rows.holding(row, []) for row in wire.POSITIONS.decode(body)],
    "position_risk_v3_none": wire.POSITIONS.decode,
    "position_risk_v3_oneway": lambda body: [rows.holding(row, []) for row in wire.POSITIONS.decode(body)],
    "premium_index": wire.PREMIUM_INDEX.decode,
    "server_time": wire.SERVER_TIME.decode,
    "symbol_config": wire.SYMBOL_CONFIGS.decode,
    "ticker_price_v2": wire.TICKER_PRICE.decode,
    "user_trades": lambda body: [rows.fill(row, None, FillOrigin.EXTERNAL) for row in wire.TRADES.decode(body)],
}


@pytest.mark.parametrize("path", [path for path in files("rest/*.json") if path.stem in READERS], ids=names)
def test_answers_are_read(path: Path) -> None:
    assert READERS[path.stem](path.read_bytes()) is not None


def test_every_reader_has_its_file() -> None:
    assert READERS.keys() <= {path.stem for path in files("rest/*.json")}


@pytest.mark.parametrize("path", files("rest/errors/*.json"), ids=names)
def test_errors_are_read_and_known(path: Path) -> None:
    body = json.loads(path.read_bytes())["body"]
    error = wire.ERROR.decode(json.dumps(body).encode())
    assert error.code in CODES
    assert error.msg == body["msg"]


def test_a_cancelled_stop_s_answer_is_no_error() -> None:
    assert wire.ERROR.decode((FOLDER / "rest/algo_cancel_docs.json").read_bytes()).code == 200


def test_what_a_few_answers_mean() -> None:
    partial = rows.report(
        wire.ORDER.decode((FOLDER / "rest/order_new_limit_ioc_result_expired_partial.json").read_bytes())
    )
    assert (partial.status, partial.filled_qty) == (OrderStatus.CANCELLED, Decimal("0.318"))
    stops = wire.ALGOS.decode((FOLDER / "rest/algo_open_close_position_pair.json").read_bytes())
    assert rows.stop_price(stops, PositionSide.LONG, Decimal(1)) == Decimal(65000)
    held = [rows.held(row) for row in wire.POSITIONS.decode((FOLDER / "rest/position_risk_v3_hedge.json").read_bytes())]
    assert held == [(PositionSide.LONG, Decimal(30)), (PositionSide.SHORT, Decimal(1))]


def sequence(path: Path) -> list[Any]:
    content = json.loads(path.read_bytes())
    return content if isinstance(content, list) else [content]


@pytest.mark.parametrize("path", files("ws/user_*.json"), ids=names)
def test_private_frames_are_read(path: Path) -> None:
    for frame in sequence(path):
        text = json.dumps(frame).encode()
        if frame["e"] in ("TRADE_LITE", "GRID_UPDATE"):
            assert frames.EVENT.decode(text).e == frame["e"]
            continue
        read = frames.PRIVATE_FRAME.decode(text)
        if isinstance(read, frames.OrderUpdate):
            order = frame["o"]
            assert (read.order.symbol, read.order.client_id, read.order.event) == (order["s"], order["c"], order["x"])
            fill = execution(read.order)
            assert (fill is not None) == (order["x"] in ("TRADE", "CALCULATED"))
            if fill is not None:
                assert (fill.qty, fill.price, fill.fee) == tuple(Decimal(order[key]) for key in ("l", "L", "n"))
                assert fill.fee_currency == order["N"]


@pytest.mark.parametrize("path", [*files("ws/combined_*.json"), *files("ws/raw_*.json")], ids=names)
def test_public_frames_are_read(path: Path) -> None:
    frame = json.loads(path.read_bytes())
    data = frame.get("data", frame)
    if data["e"] == "kline":
        assert frames.REPLY.decode(json.dumps(data)).e == "kline"
        return
    read = frames.PUBLIC_FRAME.decode(json.dumps(data))
    assert read.symbol == data["s"]
    if isinstance(read, frames.BookTicker):
        assert (str(read.bid), str(read.ask), read.at_ms) == (data["b"], data["a"], data["T"])
    else:
        assert str(read.price) == data["p"]
        assert read.at_ms == data["T" if isinstance(read, frames.AggregateTrade) else "E"]


@pytest.mark.parametrize("name", ["subscribe_ack", "subscribe_error", "list_subscriptions"])
def test_answers_of_sockets_are_read(name: str) -> None:
    reply = frames.REPLY.decode((FOLDER / f"ws/{name}.json").read_bytes())
    assert (reply.error is not None) == (name == "subscribe_error")
