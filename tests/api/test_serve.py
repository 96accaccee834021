"""The process itself: how it starts, what it says, how it ends."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from app.settings import handed_on, to_environ
from tests.api.conftest import make_settings
from tests.support.stack import free_port


@asynccontextmanager
async def api(database_url: str, redis_url: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = handed_on() | to_environ(make_settings(database_url, redis_url, port=port))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.cli", "api"),
        env=environ,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_says_where_it_listens_and_stops_cleanly_with_connections_open(
    database_url: str, redis_url: str
) -> None:
    port = free_port()
    async with api(database_url, redis_url, port) as process:
        assert process.stderr is not None
        line = (await process.stderr.readline()).decode()
        assert "listening" in line
        assert f"address=http://127.0.0.1:{port}" in line
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.post("/webhook/x/very-secret", json={})).status_code == 401
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                out, err = await process.communicate()
    assert process.returncode == 0
    assert out == b""
    assert b"very-secret" not in err
    assert b"Traceback" not in err


async def test_without_a_database_the_start_ends_with_one_sentence(redis_url: str) -> None:
    async with api("postgresql://levelhead:hidden@127.0.0.1:1/levelhead", redis_url, free_port()) as process:
        async with asyncio.timeout(20):
            _, err = await process.communicate()
    assert process.returncode == 1
    assert err.count(b"\n") == 1
    assert b"LEVELHEAD_DATABASE_URL" in err
    assert b"hidden" not in err


async def test_a_taken_port_ends_the_start(database_url: str, redis_url: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        async with api(database_url, redis_url, holder.getsockname()[1]) as process:
            async with asyncio.timeout(20):
                _, err = await process.communicate()
    assert process.returncode not in (0, None)
    assert b"address already in use" in err.lower()


async def test_a_request_that_is_being_answered_is_finished_first(database_url: str, redis_url: str) -> None:
    port = free_port()
    async with api(database_url, redis_url, port) as process:
        assert process.stderr is not None
        await process.stderr.readline()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"symbol":"BTCUSDT"}'
        writer.write(b"POST /webhook/x/y HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        writer.write(body[:5])
        await writer.drain()
        # The head has been read once another connection is answered after it.
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await client.get("/health/live")
        process.send_signal(signal.SIGTERM)
        writer.write(body[5:])
        assert b" 401 " in await reader.readline()
        writer.close()
        async with asyncio.timeout(6):
            await process.communicate()
    assert process.returncode == 0
