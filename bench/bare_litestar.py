"""A handler that does nothing, in our own framework, served as `levelhead api` is, without its headers.

For bench/door.py.
"""

import sys

import uvloop
from litestar import Litestar, post
from litestar.params import FromPath

from app.main import Server, server_config


@post("/webhook/{strategy:str}", status_code=202)
async def empty(strategy: FromPath[str]) -> None:
    return None


if __name__ == "__main__":
    app = Litestar(route_handlers=[empty], logging_config=None, openapi_config=None)
    uvloop.run(Server(server_config(app, "127.0.0.1", int(sys.argv[1]), headers=())).serve())
