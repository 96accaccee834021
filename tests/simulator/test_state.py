"""What survives a restart, and how the program starts and stops."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import aiohttp
import msgspec

from simulator.exchange import Config
from simulator.server import running
from tests.simulator.support import Client


async def test_everything_but_faults_and_requests_survives(tmp_path: Path) -> None:
    config = Config(port=0, prices="manual", state=str(tmp_path / "state.json"))
    async with aiohttp.ClientSession() as session:
        async with running(config) as url:
            client = Client(url, session)
            await client.control("accounts", api_key="second", api_secret="hidden", hedge=True)
            await client.control("positions", api_key="second", symbol="ETHUSDT", side="Buy", qty="1")
            await client.control("positions", api_key="second", symbol="ETHUSDT", side="Sell", qty="2")
            await client.control(
                "instruments", symbol="NEWUSDT", tick_size="1", qty_step="1", min_qty="1", max_qty="9",
                max_market_qty="9", start_price="10",
            )  # fmt: skip
            await client.post("/v5/position/set-leverage", symbol="BTCUSDT", buyLeverage="20", sellLeverage="20")
            await client.market("Buy", "0.01", orderLinkId="s-1", stopLoss="66000")
            await client.price("66500")
            before = await client.ledger()
        async with running(config) as url:
            client = Client(url, session)
            after = await client.ledger()
            for part in ("orders", "fills", "positions", "wallets"):
                assert after[part] == before[part]
            assert after["requests"] == []
            assert (await client.market("Buy", "0.01", orderLinkId="s-1"))["retCode"] == 110072
            assert (await client.position())["leverage"] == "20"
            second = Client(url, session, "second", "hidden")
            legs = await second.rows("/v5/position/list", "category=linear&symbol=ETHUSDT")
            assert [(leg["positionIdx"], leg["size"]) for leg in legs] == [(1, "1"), (2, "2")]
            await client.price("66000")  # the stop is still armed
            assert (await client.position())["size"] == "0"


async def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    """It had secrets where there are keys now, and knew of one-way positions only."""
    path = tmp_path / "state.json"
    config = Config(port=0, prices="manual", state=str(path))
    async with aiohttp.ClientSession() as session:
        async with running(config) as url:
            client = Client(url, session)
            await client.control("accounts", api_key="second", api_secret="hidden")
            await Client(url, session, "second", "hidden").market("Buy", "0.01", stopLoss="66000")
        state = msgspec.json.decode(path.read_bytes())
        state["secrets"] = {name: key["secret"] for name, key in state.pop("keys").items()}
        newer = {"hedge", "hedge_symbols", "isolated", "isolated_symbols", "taker_fee", "maker_fee", "venue"}
        for account in state["accounts"]:
            for name in newer:
                del account[name]
            for row in (*account["positions"].values(), *account["orders"].values(), *account["fills"]):
                del row["position_side"]
        path.write_bytes(msgspec.json.encode(state))
        async with running(config) as url:
            row = await Client(url, session, "second", "hidden").position()
            assert (row["size"], row["stopLoss"], row["positionIdx"]) == ("0.01", "66000", 0)


async def start(*arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", "--port", "0", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    return process, line.split("listens on ")[1].split()[0]


def wait_until_saved(path: Path, client_order_id: str) -> None:
    """Until the state file holds this order: there is no event of another process to wait for."""
    while not path.exists() or client_order_id not in path.read_text():
        time.sleep(0.02)


async def test_a_killed_program_comes_back_with_its_position_and_a_told_one_stops(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    options = ("--prices", "manual", "--state", str(path), "--api-key", "k", "--api-secret", "s")
    async with aiohttp.ClientSession() as session:
        process, url = await start(*options)
        await Client(url, session, "k", "s").market("Buy", "0.01", orderLinkId="kill-9")
        await asyncio.to_thread(wait_until_saved, path, "kill-9")
        process.kill()
        await process.wait()
        process, url = await start(*options)
        client = Client(url, session, "k", "s")
        assert (await client.position())["size"] == "0.01"
        socket = await client.public("tickers.BTCUSDT")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        while not await socket.has_ended():
            pass
