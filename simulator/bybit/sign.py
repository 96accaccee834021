"""Who is calling: the key, the clock rule and the signature of REST calls and of the private socket.

https://bybit-exchange.github.io/docs/v5/guide#authentication
"""

import hashlib
import hmac
from collections.abc import Mapping

from simulator.bybit.errors import BAD_KEY, BAD_SIGN, CLOCK, REQUESTS, ApiError

AHEAD_MS_MAX = 1000  # a stamp must be younger than the server's clock + 1 s
RECV_WINDOW_MS = 5000


def signature(secret: str, payload: bytes) -> str:
    return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()


def check_request(headers: Mapping[str, str], payload: bytes, secrets: Mapping[str, str], now_ms: int) -> str:
    """The caller's key. `payload` is the raw query string of a GET or the raw body of a POST, as on the wire."""
    key = headers.get("X-BAPI-API-KEY", "")
    secret = secrets.get(key)
    if secret is None:
        raise ApiError(BAD_KEY, REQUESTS[BAD_KEY])
    stamp, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "")
    window_ms = int(window) if window.isdecimal() else RECV_WINDOW_MS
    if not stamp.isdecimal() or not now_ms - window_ms <= int(stamp) < now_ms + AHEAD_MS_MAX:
        raise ApiError(
            CLOCK,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{stamp}],server_timestamp[{now_ms}],recv_window[{window_ms}]",
        )
    origin = f"{stamp}{key}{window}".encode() + payload
    if not hmac.compare_digest(signature(secret, origin).encode(), headers.get("X-BAPI-SIGN", "").encode()):
        masked = f"{stamp}{'X' * len(key)}{window}" + payload.decode("utf-8", "replace")
        raise ApiError(BAD_SIGN, f"error sign! origin_string[{masked}]")
    return key


def check_socket(args: object, secrets: Mapping[str, str], now_ms: int) -> str | None:
    """The key of `{"op":"auth","args":[key, expires_ms, signature]}`, or None if it will not do."""
    if not isinstance(args, list) or len(args) != 3:
        return None
    key, expires, given = str(args[0]), str(args[1]), str(args[2])
    secret = secrets.get(key)
    if secret is None or not expires.isdecimal() or int(expires) <= now_ms:
        return None
    wanted = signature(secret, f"GET/realtime{expires}".encode())
    return key if hmac.compare_digest(wanted.encode(), given.encode()) else None
