"""What the parts of the control API share: bodies, answers, refusals."""

from typing import Any, TypeVar

import msgspec
from aiohttp import web

from simulator.model import Refused


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


B = TypeVar("B", bound=msgspec.Struct)


async def read(request: web.Request, kind: type[B]) -> B:
    raw = await request.read()
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, ValueError) as exc:
        raise bad(str(exc)) from None


def bad(sentence: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=sentence)


def answer(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


@web.middleware
async def refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    """The engine's refusals as a 400; the faces catch theirs before."""
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as refused:
        raise bad(str(refused)) from None
    return response
