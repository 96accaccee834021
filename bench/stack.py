"""The whole house as `levelhead up` runs it: durable PostgreSQL, Redis, api, worker and watcher as processes."""

import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from app.keys import Credentials, new_secret
from app.resources import Resources, open_resources
from app.settings import Settings, handed_on, to_environ
from app.store import accounts, strategies
from app.store.db import transaction
from app.store.migrate import migrate
from app.up import postgres, redis
from app.up.datadir import DataDir, read_or_make
from app.up.orphans import Pids
from app.up.supervisor import Service, Supervisor
from bench.exchange import Seen, symbols
from bench.wire import Wire

HOST = "127.0.0.1"
STRATEGY = "bench"
API_KEY, API_SECRET = "bench-key", "bench-secret"
# More orders a second than an account may place at the exchange: the limit would be measured instead of the path.
LIMITED = ("/v5/order/create", "/v5/position/trading-stop", "/v5/position/set-leverage", "/v5/position/list")
LIMITS = {"paths": dict.fromkeys(LIMITED, 10_000)}
BINANCE_LIMITS = {"limits": {"weight_1m": 10**7, "orders_1m": 10**6, "orders_10s": 10**6}}


class Stack(msgspec.Struct, kw_only=True):
    """A running house. `exchange` is for questions and prices, never for what is measured; `line` is asked what came
    over it, where the exchange is some milliseconds away.
    """

    resources: Resources
    settings: Settings
    symbols: Sequence[str]
    secret: str
    account_id: UUID
    api_url: str
    exchange_url: str
    canned_url: str
    exchange: Wire
    line: Wire | None = None

    async def seen(self) -> Seen:
        """What the exchange noted since the last call, or its line did."""
        status, body = await (self.line or self.exchange).get("/bench/seen")
        assert status == 200, body
        return msgspec.json.decode(body, type=Seen)

    async def price(self, price: str, *names: str) -> None:
        """One trade of each symbol."""
        trades = [{"symbol": name, "price": price} for name in names]
        status, body = await self.exchange.post("/control/price", msgspec.json.encode({"trades": trades}))
        assert status == 200, body

    async def rows(self, query: str, *args: object) -> list[Any]:
        found: list[Any] = await self.resources.pool.fetch(query, *args)
        return found


@asynccontextmanager
async def running(
    books: int,
    folder: Path | None,
    log_level: str = "info",
    *,
    venue: str = accounts.VenueName.BYBIT,
    delay_ms: float | None = None,
) -> AsyncIterator[Stack]:
    """Start everything in a directory below `folder` that is removed afterwards, with an account at one face of the
    exchange. With `delay_ms` that is so far away, each way.
    """
    async with servers(folder) as (place, supervisor):
        port, exchange_port, canned_port, line_port = free_ports(4)
        exchange_url = f"http://{HOST}:{exchange_port}"
        settings = Settings(
            database_url=place.database_url(),
            redis_url=place.redis_url(),
            master_key=read_or_make(place.master_key),
            simulator_url=exchange_url if delay_ms is None else f"http://{HOST}:{line_port}",
            host=HOST,
            port=port,
            log_level=log_level,  # type: ignore[arg-type]
        )
        await migrate(settings.database_url.reveal())
        await supervisor.start(_exchange(exchange_port, canned_port, books, place))
        if delay_ms is not None:
            await supervisor.start(_line(line_port, exchange_url, delay_ms, place))
        async with open_resources(settings) as resources, _wires(settings, exchange_url) as (exchange, line):
            for name, limits in (("limits", LIMITS), ("binance", BINANCE_LIMITS)):
                status, body = await exchange.post(f"/control/{name}", msgspec.json.encode(limits))
                assert status == 200, body
            secret = new_secret()
            account_id = await furnish(resources, secret, accounts.VenueName(venue))
            environ = handed_on() | to_environ(settings)
            await supervisor.start(
                *(
                    Service(
                        name=name,
                        argv=[sys.executable, "-m", "app.cli", name],
                        env=environ,
                        ready=lambda: _ready(port),
                        log=place.logs / f"{name}.log",
                    )
                    for name in ("api", "worker", "watcher")
                )
            )
            yield Stack(
                resources=resources,
                settings=settings,
                symbols=symbols(books),
                secret=secret,
                account_id=account_id,
                api_url=f"http://{HOST}:{port}",
                exchange_url=exchange_url,
                canned_url=f"http://{HOST}:{canned_port}",
                exchange=exchange,
                line=line,
            )


@asynccontextmanager
async def servers(
    folder: Path | None, pinned: Callable[[Service], Service] = lambda service: service
) -> AsyncIterator[tuple[DataDir, Supervisor]]:
    """PostgreSQL and Redis as `levelhead up` has them, below `folder`; `pinned` may keep them on a core."""
    with tempfile.TemporaryDirectory(prefix="levelhead-bench-", dir=folder) as made:
        place = DataDir(Path(made))
        place.make()
        async with Supervisor(pids=Pids(place.pids), say=print) as supervisor:
            data, log = place.postgres, place.logs / "postgres.log"
            await postgres.prepare(data=data, sockets=place.sockets, log=log)
            await supervisor.start(
                pinned(postgres.service(data=data, sockets=place.sockets, log=log)),
                pinned(redis.service(data=place.redis, sockets=place.sockets, log=place.logs / "redis.log")),
            )
            yield place, supervisor


@asynccontextmanager
async def _wires(settings: Settings, exchange_url: str) -> AsyncIterator[tuple[Wire, Wire | None]]:
    """To the exchange, and to the line before it if there is one."""
    exchange = await Wire.open(exchange_url)
    line = None if settings.simulator_url == exchange_url else await Wire.open(settings.simulator_url or "")
    try:
        yield exchange, line
    finally:
        for wire in (exchange, line):
            if wire is not None:
                with suppress(OSError):
                    await wire.close()


def _exchange(port: int, canned_port: int, books: int, place: DataDir) -> Service:
    argv = [sys.executable, "-m", "bench.exchange", "--port", str(port), "--canned-port", str(canned_port)]
    argv += ["--symbols", str(books), "--api-key", API_KEY, "--api-secret", API_SECRET]
    return _at_exchange("exchange", argv, port, place)


def _line(port: int, exchange_url: str, delay_ms: float, place: DataDir) -> Service:
    argv = [sys.executable, "-m", "bench.line", "--port", str(port), "--upstream", exchange_url]
    return _at_exchange("line", [*argv, "--delay-ms", str(delay_ms)], port, place)


def _at_exchange(name: str, argv: Sequence[str], port: int, place: DataDir) -> Service:
    async def ready() -> bool:
        return await answers(f"http://{HOST}:{port}", "/control/health")

    return Service(name=name, argv=argv, env=handed_on(), ready=ready, log=place.logs / f"{name}.log")


async def furnish(resources: Resources, secret: str, venue: accounts.VenueName) -> UUID:
    """One account and one strategy."""
    async with transaction(resources.pool) as connection:
        account = await accounts.create(
            connection,
            resources.keys,
            name="paper",
            venue=venue,
            environment=accounts.Environment.SIMULATOR,
            credentials=Credentials(api_key=API_KEY, api_secret=API_SECRET),
        )
        share = strategies.AccountShare(account_id=account.id)
        new = strategies.NewStrategy(id=STRATEGY, name=STRATEGY, accounts=[share])
        await strategies.create(connection, new, resources.keys.secret_hash(secret))
    return account.id


async def _ready(port: int) -> bool:
    """Each of the three counts as started when all of them are."""
    return await answers(f"http://{HOST}:{port}", "/health/ready")


async def answers(url: str, path: str, ok: int = 200) -> bool:
    """Whether a server is there and says so."""
    try:
        wire = await Wire.open(url)
    except OSError:
        return False
    try:
        return (await wire.get(path))[0] == ok
    except (OSError, EOFError):
        return False
    finally:
        with suppress(OSError):
            await wire.close()


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    found: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found
