"""A socket server, a process of its own, that sends trade frames as fast as they are taken.

It knows as much of both venues as their readers ask for: a subscription is acknowledged, and answered with frames once
no other has followed for a moment. Frames are put together beforehand, so that the reader is what is measured.
"""

import argparse
import asyncio
import base64
import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import uvloop

from bench.frames import frames

HOST = "127.0.0.1"
CHUNK = 64 * 1024  # bytes that go to the socket at once
ANSWER_S = 0.02  # pybit notes a subscription after it has sent it, and its socket dies of an answer that is faster
QUIET_S = 0.1  # after the last subscription, until the frames begin
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """One message as a server sends it, unmasked."""
    length = len(payload)
    head = bytes([0x80 | kind])
    if length < 126:
        return head + bytes([length]) + payload
    if length < 65536:
        return head + b"\x7e" + struct.pack("!H", length) + payload
    return head + b"\x7f" + struct.pack("!Q", length) + payload


def chunks(payloads: list[bytes]) -> list[bytes]:
    """All messages, joined to about `CHUNK` bytes each."""
    found, size = [bytearray()], 0
    for payload in payloads:
        if size > CHUNK:
            found.append(bytearray())
            size = 0
        whole = frame(payload)
        found[-1] += whole
        size += len(whole)
    return [bytes(chunk) for chunk in found]


async def handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Answers the path that was asked for."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    digest = hashlib.sha1(fields["sec-websocket-key"].encode() + MAGIC).digest()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + base64.b64encode(digest)
        + b"\r\n\r\n"
    )
    return first.split(" ")[1]


async def receive(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Kind and payload of the client's next message; readers send short whole ones."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        [length] = struct.unpack("!H", await reader.readexactly(2))
    mask = await reader.readexactly(4)
    masked = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))


def acknowledge(message: bytes) -> bytes | None:
    """What a venue answers; None where the message is none that it knows."""
    asked = msgspec.json.decode(message)
    if asked.get("op") == "ping":
        return msgspec.json.encode({"success": True, "ret_msg": "pong", "conn_id": "1", "op": "ping"})
    if asked.get("op") in ("subscribe", "unsubscribe"):
        answer = {"success": True, "ret_msg": "", "conn_id": "1", "req_id": asked.get("req_id", ""), "op": asked["op"]}
        return msgspec.json.encode(answer)
    if asked.get("method"):
        return msgspec.json.encode({"result": None, "id": asked["id"]})
    return None


def bare(payload: bytes) -> bytes:
    """A frame of Binance without the name of its stream around it, as its paths /ws/… send it."""
    return bytes(msgspec.json.decode(payload, type=dict[str, msgspec.Raw])["data"])


class Server:
    """Sends what `choose` has for the path that is asked for, round and round (`again`), or once."""

    def __init__(self, choose: Callable[[str], list[bytes]], *, again: bool = True) -> None:
        self._choose = choose
        self._again = again

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subscribed = asyncio.Event()
        sender: asyncio.Task[None] | None = None
        try:
            path = await handshake(reader, writer)
            if "@" in path:
                subscribed.set()
            sender = asyncio.create_task(self._send(writer, subscribed, chunks(self._choose(path))))
            while True:
                kind, payload = await receive(reader)
                if kind == PING:
                    writer.write(frame(payload, PONG))
                elif kind == CLOSE:
                    return
                elif kind == TEXT and (answer := acknowledge(payload)) is not None:
                    await asyncio.sleep(ANSWER_S)
                    writer.write(frame(answer))
                    if b"ubscri" in payload.lower():
                        subscribed.set()
        except (OSError, EOFError):
            pass
        finally:
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, subscribed: asyncio.Event, whole: list[bytes]) -> None:
        await subscribed.wait()
        while subscribed.is_set():
            subscribed.clear()
            await asyncio.sleep(QUIET_S)
        while True:
            for chunk in whole:
                writer.write(chunk)
                await writer.drain()
            if not self._again:
                return


@asynccontextmanager
async def running(choose: Callable[[str], list[bytes]], *, again: bool = True) -> AsyncIterator[str]:
    """Serve while inside; yields the origin, such as ws://127.0.0.1:8090."""
    server = await asyncio.start_server(Server(choose, again=again).serve, HOST, 0)
    try:
        yield f"ws://{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _main(venue: str, folder: Path | None) -> None:
    found, origin = frames(venue, folder)
    unwrapped = [bare(payload) for payload in found] if venue == "binance" else found
    async with running(lambda path: unwrapped if "/ws/" in path else found) as url:
        print(msgspec.json.encode({"url": url, "origin": origin}).decode(), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.frame_server")
    parser.add_argument("--venue", required=True)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    uvloop.run(_main(given.venue, given.folder))
