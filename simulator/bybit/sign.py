"""Who is calling: the key, the clock rule and the signature of REST calls and of the private socket.

https://bybit-exchange.github.io/docs/v5/guide#authentication
"""

from collections.abc import Mapping

from simulator.bybit.errors import (
    BAD_KEY,
    BAD_SIGN,
    CLOCK,
    EXPIRED,
    PERMISSION,
    REQUESTS,
    WRONG_ADDRESS,
    ApiError,
    params,
)
from simulator.keys import ApiKey

AHEAD_MS_MAX = 1000  # a stamp must be younger than the server's clock + 1 s
RECV_WINDOW_MS = 5000


def check_request(headers: Mapping[str, str], payload: bytes, keys: Mapping[str, ApiKey], now_ms: int) -> str:
    """The caller's key. `payload` is the raw query string of a GET or the raw body of a POST, as on the wire."""
    name = headers.get("X-BAPI-API-KEY", "")
    key = keys.get(name)
    if key is None:
        raise ApiError(BAD_KEY, REQUESTS[BAD_KEY])
    stamp, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "")
    check_clock(stamp, window, now_ms)
    origin = f"{stamp}{name}{window}".encode() + payload
    if not _verifies(key, origin, headers.get("X-BAPI-SIGN", "")):
        masked = f"{stamp}{'X' * len(name)}{window}" + payload.decode("utf-8", "replace")
        raise ApiError(BAD_SIGN, f"error sign! origin_string[{masked}]")
    return name


def check_clock(stamp: str, window: str, now_ms: int) -> None:
    window_ms = int(window) if window.isdecimal() else RECV_WINDOW_MS
    if not stamp.isdecimal() or not now_ms - window_ms <= int(stamp) < now_ms + AHEAD_MS_MAX:
        raise ApiError(
            CLOCK,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{stamp}],server_timestamp[{now_ms}],recv_window[{window_ms}]",
        )


def check_rights(key: ApiKey, address: str, *, writes: bool) -> None:
    """What a key that signed well may still not do."""
    if key.expired:
        raise ApiError(EXPIRED, REQUESTS[EXPIRED])
    if key.ips and address not in key.ips:
        raise ApiError(WRONG_ADDRESS, REQUESTS[WRONG_ADDRESS])
    if writes and (key.read_only or not key.trade):
        raise ApiError(PERMISSION, REQUESTS[PERMISSION])


def check_socket(args: object, keys: Mapping[str, ApiKey], now_ms: int) -> str:
    """The key of `{"op":"auth","args":[key, expires_ms, signature]}`; ApiError if it will not do."""
    if not isinstance(args, list) or len(args) != 3:
        raise params("args invalid")
    name, expires, given = str(args[0]), str(args[1]), str(args[2])
    if not expires.isdecimal() or int(expires) <= now_ms:
        raise params("expires invalid")
    key = keys.get(name)
    if key is None:
        raise ApiError(BAD_KEY, REQUESTS[BAD_KEY])
    if not _verifies(key, f"GET/realtime{expires}".encode(), given):
        raise ApiError(BAD_SIGN, "error sign!")
    return name


def _verifies(key: ApiKey, payload: bytes, given: str) -> bool:
    """HMAC in hex or RSA in base64; there is no Ed25519 here."""
    return key.algorithm != "ED25519" and key.verifies(payload, given)
