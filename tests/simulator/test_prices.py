"""The random walk, files and prices by hand."""

import gzip
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from simulator.exchange import Config
from simulator.instruments import built_in, symbol_of_file
from simulator.prices import Walk
from simulator.recording import read_rows, start_ts_us
from simulator.server import running
from tests.simulator.support import Client

ROWS = """ts_us,price,qty,side,recv_us,id
1760054400000000,182.5,1,buy,1760054400001000,11
1760054401000000,182.25,2,sell,1760054401001000,12
1760054401000000,179,3,sell,,13
1760054460000000,183.125,4,buy,1760054460001000,
1760054520000000,181,5,sell,1760054520001000,15
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gemini_SOLUSD_20251010.csv.gz"
    with gzip.open(path, "wt") as out:
        out.write(ROWS)
    return path


async def played(client: Client, path: str) -> dict[str, object]:
    """Wait for the end of the file by its last trade."""
    socket = await client.public("publicTrade.SOLUSDT")
    await client.control("prices", source="file", path=path, speed=1_000_000)
    await socket.until(lambda f: "data" in f and f["data"][-1]["p"] == "181")
    await socket.link.close()
    async with client.session.get(f"{client.url}/control/prices") as answer:
        status: dict[str, object] = await answer.json()
    status["trades"] = [row for f in socket.seen if "data" in f for row in f["data"]]
    return status


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("binance-usdm_BTCUSDT_20200222.csv.gz", "BTCUSDT"),
        ("gemini_SOLUSD_20251010.csv", "SOLUSDT"),
        ("binance-coinm_DOTUSD_PERP_20251010.csv.gz", "DOTUSDT"),
    ],
)
def test_the_symbol_is_in_the_name(name: str, symbol: str) -> None:
    assert symbol_of_file(name) == symbol


async def test_every_row_of_a_file_is_a_trade_and_every_price_counts(client: Client, file: Path) -> None:
    await client.market("Buy", "1", symbol="SOLUSDT", stopLoss="179.5")
    status = await played(client, str(file))
    trades = status["trades"]
    assert isinstance(trades, list)
    assert [(t["p"], t["v"], t["S"]) for t in trades] == [
        ("182.5", "1", "Buy"),
        ("182.25", "2", "Sell"),
        ("179", "3", "Sell"),
        ("183.125", "4", "Buy"),
        ("181", "5", "Sell"),
    ]
    assert [t["i"] for t in trades[:3]] == ["11", "12", "13"]
    assert (status["rows_played"], status["source"]) == (5, "file")
    fills = (await client.ledger("symbol=SOLUSDT"))["fills"]
    assert [f["price"] for f in fills] == ["180", "179"]
    row = (await client.rows("/v5/market/instruments-info", "category=linear&symbol=SOLUSDT"))[0]
    assert row["priceFilter"]["tickSize"] == "0.001"
    assert row["lotSizeFilter"]["qtyStep"] == "0.1"


async def test_rows_of_one_moment_share_a_frame(client: Client, file: Path) -> None:
    socket = await client.public("publicTrade.SOLUSDT")
    await client.control("prices", source="file", path=str(file), speed=1_000_000)
    frame = await socket.until(lambda f: "data" in f and any(t["i"] == "12" for t in f["data"]))
    assert "13" in [t["i"] for t in frame["data"]]
    await socket.link.close()


async def test_a_file_of_an_unknown_symbol_makes_its_instrument(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "somewhere_NEWUSDT_1.csv"
    path.write_text("ts_us,price,qty,side,recv_us,id\n1760054400000000,2.436e-05,10.5,buy,,1\n")
    await client.control("prices", source="file", path=str(path))
    row = (await client.rows("/v5/market/instruments-info", "category=linear&symbol=NEWUSDT"))[0]
    assert (row["priceFilter"]["tickSize"], row["lotSizeFilter"]["qtyStep"]) == ("0.00000001", "0.1")


def test_start_at(file: Path) -> None:
    first = next(read_rows(file)).ts_us
    assert start_ts_us(file, "00:01") == first + 60_000_000
    assert start_ts_us(file, "2025-10-10T00:02") == first + 120_000_000


async def test_a_start_time_skips_ahead(file: Path, client: Client) -> None:
    config = Config(port=0, prices=str(file), start_at="00:02", speed=1000)
    async with running(config) as url:
        other = Client(url, client.session)
        rows: list[dict[str, str]] = []
        while not rows:
            rows = await other.rows("/v5/market/recent-trade", "category=linear&symbol=SOLUSDT")
        assert [r["execId"] for r in rows] == ["15"]


@pytest.mark.parametrize(
    "body",
    [
        {"source": "file"},
        {"source": "file", "path": "/no/such_BTCUSDT_file.csv"},
        {"source": "sideways"},
        {"source": "manual", "symbol": "NOSUCH"},
        {"source": "manual", "pace": 3},
    ],
)
async def test_bad_sources_are_refused(client: Client, body: dict[str, object]) -> None:
    async with client.session.post(f"{client.url}/control/prices", json=body) as answer:
        assert answer.status == 400


def test_a_walk_repeats_and_stays_near() -> None:
    instrument = built_in()["BTCUSDT"]
    one, two = (Walk("BTCUSDT", Decimal(60000), 7) for _ in range(2))
    prices = [one.step(instrument, "").price for _ in range(2000)]
    assert prices == [two.step(instrument, "").price for _ in range(2000)]
    assert all(p % instrument.tick_size == 0 for p in prices)
    assert max(abs(b / a - 1) for a, b in pairwise(prices)) < Decimal("0.0015")
    assert all(Decimal("0.9") < p / 60000 < Decimal("1.1") for p in prices)


async def test_a_price_by_hand_recentres_the_walk(client: Client) -> None:
    await client.control("prices", source="random")
    socket = await client.public("publicTrade.BTCUSDT")
    await socket.next()
    await client.price("50000")
    await socket.until(lambda f: "data" in f and f["data"][0]["p"] == "50000")
    following = Decimal((await socket.next())["data"][0]["p"])
    assert abs(following / 50000 - 1) < Decimal("0.002")
    await socket.link.close()


async def test_a_list_of_trades_is_played_in_order(client: Client) -> None:
    await client.market("Buy", "0.01", stopLoss="66500")
    await client.control("price", trades=[{"symbol": "BTCUSDT", "price": p} for p in ("66600", "66400", "66900")])
    fills = (await client.ledger())["fills"]
    assert fills[-1]["price"] == "66400"


async def test_mark_by_hand_until_a_price_without(client: Client) -> None:
    await client.market("Buy", "0.01", stopLoss="60000", slTriggerBy="MarkPrice")
    await client.price("59000", mark="66000")
    assert (await client.position())["markPrice"] == "66000"
    await client.price("59000")
    assert (await client.position())["size"] == "0"
