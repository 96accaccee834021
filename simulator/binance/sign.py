"""Who is calling: the key, the clock rule and the signature.

https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info#signed-trade-and-user_data-endpoint-security
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from simulator.binance.errors import error
from simulator.binance.params import Params
from simulator.keys import ApiKey

AHEAD_MS_MAX = 1000  # a stamp must be younger than the server's clock + 1 s
RECV_WINDOW_MS = 5000
RECV_WINDOW_MS_MAX = 60_000

_KEY = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def check_key(name: str, keys: Mapping[str, ApiKey], address: str) -> tuple[str, ApiKey]:
    """The caller's key as it is named, and what it may do."""
    if not _KEY.fullmatch(name):
        raise error(-2014)
    key = keys.get(name)
    if key is None or key.expired or (key.ips and address not in key.ips):
        raise error(-2015)
    return name, key


def check_signed(params: Params, query: str, body: str, key: ApiKey, now_ms: int) -> None:
    """Stamp and signature of a signed call; `query` and `body` as on the wire."""
    check_clock(params, now_ms)
    params.text("signature")
    payload, given = _split(query, body)
    if not key.verifies(payload.encode(), given):
        raise error(-1022)


def check_sorted(params: Params, key: ApiKey, now_ms: int) -> None:
    """As above of a request over a socket: signed are its parameters by name, in the order of the alphabet.

    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info
    """
    check_clock(params, now_ms)
    given = params.text("signature")
    signed = sorted((name, value) for name, value in params.given.items() if name != "signature")
    if not key.verifies("&".join(f"{name}={value}" for name, value in signed).encode(), given):
        raise error(-1022)


def check_clock(params: Params, now_ms: int) -> None:
    stamp = params.integer("timestamp")
    window_ms = params.maybe_integer("recvWindow")
    window_ms = RECV_WINDOW_MS if window_ms is None else window_ms
    if window_ms > RECV_WINDOW_MS_MAX:
        raise error(-1131)
    if not (stamp < now_ms + AHEAD_MS_MAX and now_ms - stamp <= window_ms):
        raise error(-1021)


def _split(query: str, body: str) -> tuple[str, str]:
    """What was signed and the signature, which must be the last parameter of all."""
    last = body or query
    rest, found, given = last.rpartition("signature=")
    if not found or "&" in given or (rest and not rest.endswith("&")):
        raise error(-1022)
    rest = rest.removesuffix("&")
    return (query + rest if body else rest), unquote(given)
