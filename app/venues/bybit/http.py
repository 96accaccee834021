"""pybit's HTTP with one request per call, its failures told apart by what they say about the request.

pybit names the methods, paths and parameters; four of its steps are replaced, each for a reason:

- the payload: GET values are escaped before they are signed, because the wire would escape them after;
- the headers: signed with a key that was parsed once, at the exchange's time instead of ours;
- sending: straight through the connection pool. A `requests.Session` would follow redirects (a 307 sends an order
  again), look into ~/.netrc and the environment at each request, and costs 0.2 ms;
- the answer: decoded here, so that none of pybit's exceptions is ever built: their text holds the whole request.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import requests
import urllib3
from pybit.unified_trading import HTTP
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from app.keys import Credentials
from app.venues.bybit.codes import CODES, STATUSES, SUCCESS, kind_of, kind_of_status
from app.venues.bybit.limits import address_wait_s, limit_of
from app.venues.bybit.wire import ENVELOPE, Envelope, signer
from app.venues.clock import Clock
from app.venues.failures import Dropped, Limit, NoAnswer, NotSent, VenueSaid
from app.venues.kinds import Kind

# What urllib3 leaves alone in a query, and "%": a cursor comes escaped and is passed on as it is.
_QUERY_SAFE = "!$'()*,;:@/?%"
TEXT_MAX = 200
SYNCHRONISE_TIMEOUT_S = 2.0


class BybitHttp(HTTP):  # type: ignore[misc]  # pybit is untyped
    """One connection of one account, for one thread at a time. Its methods are pybit's and return an `Envelope`;
    `limit` is what the last answer said of its endpoint's budget.
    """

    def __init__(
        self, credentials: Credentials, origin: str, *, recv_window_ms: int, timeout_s: float, clock: Clock
    ) -> None:
        super().__init__(
            # An empty set of retry codes falls back to pybit's default, and 0 is never an error.
            max_retries=1,
            retry_codes={SUCCESS},
            force_retry=False,
            recv_window=recv_window_ms,
            timeout=timeout_s,
        )
        self.endpoint = origin.rstrip("/")
        # pybit adds a handler of its own to its logger, and logs whole answers.
        self.logger.handlers.clear()
        self.logger.disabled = True
        self.clock = clock
        self.limit: Limit | None = None
        self.signed_ms: int | None = None  # our clock; the next request carries this time instead of now
        self._sign: Callable[[bytes], str] = signer(credentials)
        self._key = credentials.api_key
        self.client: Any
        self.timeout: float
        self.client.close()
        self.client = _Pool(self.endpoint)

    def __repr__(self) -> str:
        return f"BybitHttp({self.endpoint!r})"

    def compare_clocks(self) -> Envelope:
        """Ask for the time, and measure by it."""
        sent_ms = int(time.time() * 1000)
        envelope: Envelope = self.get_server_time()
        self.clock.sample(sent_ms, envelope.time, int(time.time() * 1000))
        return envelope

    def synchronise(self) -> None:
        """Compare clocks. Raises as any call does, but sooner: an order may be waiting behind it."""
        usual, self.timeout = self.timeout, min(self.timeout, SYNCHRONISE_TIMEOUT_S)
        try:
            self.compare_clocks()
        finally:
            self.timeout = usual

    def close(self) -> None:
        self.client.close()

    @staticmethod
    def prepare_payload(method: str, parameters: dict[str, Any]) -> bytes:
        if method == "GET":
            return "&".join(f"{k}={_escaped(str(v))}" for k, v in sorted(parameters.items())).encode()
        return msgspec.json.encode(parameters)

    def _prepare_headers(
        self, payload: bytes, recv_window: int, content_type: str = "application/json"
    ) -> dict[str, str]:
        timestamp = str(self.clock.now_ms() if self.signed_ms is None else self.signed_ms + self.clock.offset_ms)
        window = str(recv_window)
        return {
            "Content-Type": content_type,
            "X-BAPI-API-KEY": self._key,
            "X-BAPI-SIGN": self._sign(f"{timestamp}{self._key}{window}".encode() + payload),
            "X-BAPI-SIGN-TYPE": "2",
            "X-BAPI-TIMESTAMP": timestamp,
            "X-BAPI-RECV-WINDOW": window,
        }

    def _prepare_request(
        self, method: str, path: str, params: bytes, headers: dict[str, str]
    ) -> requests.PreparedRequest:
        request = requests.PreparedRequest()
        request.method = method
        request.url = f"{path}?{params.decode()}" if method == "GET" and params else path
        request.headers = CaseInsensitiveDict({"Accept": "application/json", **headers})
        if method == "GET":
            request.headers["Accept-Encoding"] = "gzip"
            request.body = None
        else:
            request.headers["Content-Length"] = str(len(params))
            request.body = params
        return request

    def _log_request(self, method: str, path: str, params: bytes, headers: object) -> None:
        pass

    def _check_status_code(self, response: requests.Response, method: str, path: str, params: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        if status not in STATUSES:
            raise NoAnswer(f"Bybit answered with HTTP status {status}")
        kind = kind_of_status(status)
        wait_s = address_wait_s(status, response.headers) if kind is Kind.RATE else None
        raise VenueSaid(kind, status, STATUSES[status].meaning, http=True, retry_after_s=wait_s)

    def _handle_response(self, response: requests.Response, *_: object) -> Envelope:
        try:
            envelope = ENVELOPE.decode(response.content)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise NoAnswer("Bybit's answer could not be read") from None
        self.limit = told(envelope, response.headers)
        return envelope


def told(envelope: Envelope, headers: Mapping[str, str]) -> Limit | None:
    """What a good answer says of its endpoint's budget, over whichever road it came. Raises VenueSaid for another."""
    kind = kind_of(envelope.retCode)
    limit = limit_of(headers, envelope.time, exceeded=kind is Kind.RATE)
    if envelope.retCode == SUCCESS:
        return limit
    wait_s = limit.for_s if limit is not None and kind is Kind.RATE else None
    # A fatal code is told in our words: the exchange's own quote the key (10004 repeats what was signed).
    text = CODES[envelope.retCode].meaning if kind is Kind.FATAL else (envelope.retMsg or "no reason given")
    raise VenueSaid(kind, envelope.retCode, text[:TEXT_MAX], limit=limit, retry_after_s=wait_s)


class _Pool:
    """In place of pybit's `requests.Session`: a connection pool, and nothing around it."""

    def __init__(self, origin: str) -> None:
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1)
        # A proxy and a certificate bundle from the environment count; they are looked up once.
        with requests.Session() as session:
            found = session.merge_environment_settings(origin, {}, None, None, None)
        self._proxies = found["proxies"]
        self._verify = True if found["verify"] is None else found["verify"]

    def send(self, request: requests.PreparedRequest, timeout: float) -> requests.Response:
        try:
            response = self._adapter.send(request, timeout=timeout, verify=self._verify, proxies=self._proxies)
            response.content  # noqa: B018  # read, so that the connection goes back to the pool
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
            raise _network_failure(exc) from None
        return response

    def close(self) -> None:
        self._adapter.close()


def _network_failure(exc: Exception) -> NotSent | NoAnswer:
    """Tell apart what requests and urllib3 raise before the first byte of a request, and what they may raise after."""
    cause = getattr(exc.args[0], "reason", None) if exc.args else None
    match exc:
        case requests.exceptions.ConnectTimeout():
            return NotSent("no connection to Bybit in time")
        case requests.exceptions.ProxyError():
            return NotSent("the proxy did not connect to Bybit")
        case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            return NotSent("Bybit's certificate could not be verified")
        case requests.exceptions.ConnectionError() if isinstance(cause, urllib3.exceptions.NewConnectionError):
            return NotSent("no connection to Bybit")  # refused, unreachable, or its name is not known
        case requests.exceptions.Timeout():
            return NoAnswer("Bybit did not answer in time")
        case requests.exceptions.ConnectionError() if "timed out" in str(exc):
            return NoAnswer("Bybit did not finish its answer in time")
        case _:
            return Dropped("the connection to Bybit broke before it answered")


def _escaped(value: str) -> str:
    """The value as urllib3 will put it on the wire, so that what is signed is what is sent."""
    return _upper_escapes(quote(value, safe=_QUERY_SAFE)) if "%" in value else quote(value, safe=_QUERY_SAFE)


def _upper_escapes(text: str) -> str:
    head, *rest = text.split("%")
    return head + "".join(f"%{part[:2].upper()}{part[2:]}" for part in rest)
