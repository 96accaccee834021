"""How an answer leaves over HTTP, whichever face gives it."""

from aiohttp import web

from simulator.exchange import Exchange, Received


async def answer(
    exchange: Exchange, request: web.Request, entry: Received, response: web.Response | None
) -> web.StreamResponse:
    """Write it out here, so that the private frames of this request follow it. None: the connection is cut."""
    if response is None:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=499)  # which is never written
    entry.status = response.status
    try:
        await response.prepare(request)
        await response.write_eof()
        entry.answered = True
    except ConnectionError:
        pass  # the caller is gone; what was executed stays executed
    finally:
        exchange.flush()
    return response
