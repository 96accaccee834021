"""Parameters of a request: query string and form body, with the refusals of what is missing, doubled or malformed."""

import re
from decimal import Decimal
from urllib.parse import unquote_plus

from simulator.binance.errors import error
from simulator.faults import REST
from simulator.model import Side

CLIENT_ID = r"^[\.A-Z\:/a-z0-9_-]{1,36}$"
_DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_INTEGER = r"^[0-9]{1,20}$"


def parse(query: str, body: str) -> dict[str, str]:
    """Both places in one; the query wins on a clash. A name twice in one place is refused."""
    return _pairs(body) | _pairs(query)


def _pairs(encoded: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in encoded.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        name = unquote_plus(name)
        if name in values:
            raise error(-1101)
        values[name] = unquote_plus(value)
    return values


class Params:
    """Typed reading. `given` keeps what was sent, signature and stamp included; `channel` is the way it came."""

    def __init__(self, given: dict[str, str], channel: str = REST) -> None:
        self.given = given
        self.channel = channel

    def allow(self, names: frozenset[str]) -> None:
        """Refuse what this endpoint does not know."""
        read = sum(name in names for name in self.given)
        if read != len(self.given):
            raise error(-1104, read, len(self.given))

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def text(self, name: str) -> str:
        value = self.given.get(name, "")
        if not value:
            raise error(-1102, name)
        return value

    def maybe(self, name: str) -> str | None:
        value = self.given.get(name)
        if value == "":
            raise error(-1105, name)
        return value

    def decimal(self, name: str) -> Decimal:
        return _decimal(name, self.text(name))

    def maybe_decimal(self, name: str) -> Decimal | None:
        value = self.maybe(name)
        return None if value is None else _decimal(name, value)

    def integer(self, name: str) -> int:
        value = self.text(name)
        if not re.match(_INTEGER, value):
            raise error(-1102, name)
        return int(value)

    def maybe_integer(self, name: str) -> int | None:
        value = self.maybe(name)
        if value is None:
            return None
        if not re.match(_INTEGER, value):
            raise error(-1130, name)
        return int(value)

    def boolean(self, name: str) -> bool:
        """Lower case only: whether the exchange takes "True" is not known."""
        value = self.maybe(name)
        if value not in (None, "true", "false"):
            raise error(-1130, name)
        return value == "true"

    def choice(self, name: str, allowed: frozenset[str], code: int, default: str) -> str:
        value = self.maybe(name)
        if value is None:
            return default
        if value not in allowed:
            raise error(code, name)
        return value

    def side(self) -> Side:
        match self.text("side"):
            case "BUY":
                return Side.BUY
            case "SELL":
                return Side.SELL
            case _:
                raise error(-1117)

    def client_id(self, name: str) -> str | None:
        value = self.maybe(name)
        if value is None:
            return None
        if len(value) > 36:
            raise error(-4015)
        if not re.match(CLIENT_ID, value):
            raise error(-1100, name, CLIENT_ID)
        return value

    def limit(self, default: int, most: int) -> int:
        value = self.maybe_integer("limit")
        if value is None:
            return default
        if not 1 <= value <= most:
            raise error(-1130, "limit")
        return value

    def span(self, longest_ms: int | None = None) -> tuple[int | None, int | None]:
        """startTime and endTime, both included."""
        start, end = self.maybe_integer("startTime"), self.maybe_integer("endTime")
        if start is not None and end is not None:
            if end < start:
                raise error(-1128)
            if longest_ms is not None and end - start > longest_ms:
                raise error(-1127)
        return start, end


def _decimal(name: str, value: str) -> Decimal:
    """Plain digits only: an exponent or a sign is refused."""
    if not re.match(_DECIMAL, value):
        raise error(-1100, name, _DECIMAL)
    return Decimal(value)
