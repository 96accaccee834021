"""The HTTP process: the only place that builds Litestar."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import uvicorn
import uvloop
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, License, SecurityScheme, Tag

from app import addresses
from app.api.access import require_access
from app.api.accounts import AccountController
from app.api.alerts import AlertController
from app.api.auth import AuthController
from app.api.describe import ABOUT, TAGS, Described, operation_id
from app.api.drifts import DriftController
from app.api.health import HealthController
from app.api.inject import refuse_unknown_query, resources_of
from app.api.metrics import MetricsController
from app.api.positions import PositionController
from app.api.problems import on_error
from app.api.signing import SigningController
from app.api.strategies import StrategyController
from app.api.throttle import Throttle
from app.api.webhooks import WebhookController
from app.beat import beating
from app.errors import StoreUnavailable
from app.log import event
from app.resources import Resources, open_resources
from app.settings import Settings, require_servers

log = logging.getLogger("api")

API_BODY_BYTES_MAX = 1024 * 1024
SHUTDOWN_S = 5
GC_AFTER = 10_000  # new objects: a request under way holds hundreds, and looking at them every 700 took a tenth
KEEP_ALIVE_S = 75  # longer than the usual 60 s of a proxy, which would else send into a closing connection

# Of every answer, also of those that uvicorn gives by itself.
SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),  # an address here may hold a webhook's secret
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-store"),
]


def create_app(resources: Resources) -> Litestar:
    """The application on resources that whoever calls has opened, and closes after it."""
    api = Router(
        path="/api/v1",
        route_handlers=[
            AuthController,
            AlertController,
            PositionController,
            DriftController,
            StrategyController,
            SigningController,
            AccountController,
        ],
        before_request=refuse_unknown_query,
    )
    # Around all but the door: whoever comes there proves who he is by the alert itself, and Litestar copies the handler
    # each time that it asks a guard.
    guarded = Router(path="/", route_handlers=[api, HealthController, MetricsController], guards=[require_access])
    app = Litestar(
        route_handlers=[WebhookController, guarded],
        dependencies={"resources": Provide(resources_of, sync_to_thread=False)},
        exception_handlers={Exception: on_error},
        request_max_body_size=API_BODY_BYTES_MAX,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Levelhead",
            version=version("levelhead"),
            # JSON alone: the pages that draw it load scripts from elsewhere.
            description=ABOUT,
            license=License(name="MIT", identifier="MIT"),
            tags=[Tag(name=name, description=about) for name, about in TAGS.items()],
            operation_id_creator=operation_id,
            render_plugins=[Described(path=["/openapi.json", "/"])],
            openapi_router=Router(path="/schema", route_handlers=[], include_in_schema=False),
            components=Components(
                security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
            ),
            security=[{"bearer": []}],
            use_handler_docstrings=True,
        ),
    )
    app.state.resources = resources
    app.state.throttle = Throttle()
    app.state.proxies = addresses.networks(addresses.split(resources.settings.trusted_proxies))
    return app


def serve(settings: Settings) -> int:
    """`levelhead api`: serve until SIGTERM or SIGINT; answers the exit code.

    A database that can't be reached ends the start with one sentence: whoever supervises the process tries again.
    """
    require_servers(settings)
    try:
        uvloop.run(_serve(settings))
    except StoreUnavailable as error:
        event(log, logging.ERROR, f"the api can't start: {error}; see LEVELHEAD_DATABASE_URL")
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    async with beating(), open_resources(settings) as resources:
        server = Server(server_config(create_app(resources), settings.host, settings.port))
        # What lives from here on lives until the end: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_AFTER)
        await server.serve()


def server_config(
    app: Litestar, host: str, port: int, headers: Sequence[tuple[str, str]] = SECURITY_HEADERS
) -> uvicorn.Config:
    """Everything is said here: left alone, uvicorn would read some of it from the environment."""
    # The flows log one line per alert. An access log would hold the secrets that stand in paths, and uvicorn's own
    # switch only takes its handlers away.
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        workers=1,
        log_config=None,
        access_log=False,
        server_header=False,
        headers=list(headers),
        proxy_headers=False,  # see api.proxies
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


class Server(uvicorn.Server):
    """Says where it listens in our words, and returns when asked to stop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            event(log, logging.INFO, "listening", address=f"http://{f'[{host}]' if ':' in host else host}:{port}")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn's own raises the signal once more when all is done, and the process would die of it uncleanly.
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
