"""What a proxy says of its client: believed of trusted proxies only, and taken from the socket otherwise."""

from typing import Any

from litestar import Request
from litestar.datastructures import State

from app import addresses
from app.addresses import Networks


def client_of(request: Request[Any, Any, State]) -> str:
    """The address that a request comes from."""
    return addresses.client(_peer(request), request.headers.getall("x-forwarded-for", []), _proxies(request))


def base_url_of(request: Request[Any, Any, State]) -> str:
    """Where a request was sent to, without a path."""
    url = str(request.base_url).rstrip("/")
    said = request.headers.get("x-forwarded-proto", "").strip().lower()
    if said in ("http", "https") and is_proxied(request):
        return said + url[url.index("://") :]
    return url


def is_certified(request: Request[Any, Any, State], header: str | None) -> bool:
    """Whether a trusted proxy says in this header (`name: value`) that it has verified the sender's certificate. A
    second header of that name is not the proxy's.
    """
    if header is None or not is_proxied(request):
        return False
    name, _, value = header.partition(": ")
    return bool(request.headers.getall(name, []) == [value])


def is_proxied(request: Request[Any, Any, State]) -> bool:
    """Whether a trusted proxy hands the request on."""
    return addresses.among(addresses.read(_peer(request)), _proxies(request))


def _peer(request: Request[Any, Any, State]) -> str:
    client = request.scope["client"]
    return client[0] if client else ""


def _proxies(request: Request[Any, Any, State]) -> Networks:
    found: Networks = request.app.state.proxies
    return found
