"""One line per event: readable text for a person, or JSON for a machine. Times are UTC, like everywhere else.

12:00:01.250 worker   info  order filled  alert=0198… qty=0.010 price=64000.5
{"at":"2026-01-05T12:00:01.250Z","process":"worker","level":"info","msg":"order filled","qty":"0.010",…}
"""

import logging
import re
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal

import msgspec

CHATTY = {
    # httpx, uvicorn and aiohttp log whole URLs at info, and a webhook's URL may carry its secret.
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "asyncio": logging.WARNING,
    "arq": logging.WARNING,
    "pybit": logging.WARNING,
    "binance": logging.WARNING,
    "urllib3": logging.WARNING,
    "websockets": logging.WARNING,
}


def configure(settings_format: Literal["text", "json"], level: str, process_name: str) -> None:
    """Send all logging to stderr in one format; called once at the start of each process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process_name) if settings_format == "json" else TextFormatter(process_name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Nobody asks which line of code, thread or process logged: each would be looked up for every line.
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    for name, floor in CHATTY.items():
        logging.getLogger(name).setLevel(max(floor, root.level))


def event(logger: logging.Logger, level: int, msg: str, /, **fields: object) -> None:
    """Log what happened with its facts: `event(log, logging.INFO, "order filled", order=order.id, qty=fill.qty)`.

    A fact that is None is left out.
    """
    if logger.isEnabledFor(level):
        known = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, "%s", msg, extra={"fields": known})


_PLAIN = re.compile(r'[^ "=]+')


class TextFormatter(logging.Formatter):
    def __init__(self, process_name: str) -> None:
        super().__init__()
        self.process_name = process_name

    def format(self, record: logging.LogRecord) -> str:
        second, ms = divmod(int(record.created * 1000), 1000)
        line = (
            f"{_clock(second)}.{ms:03d} {self.process_name:<9} {record.levelname.lower():<7} "
            f"{_one_line(record.getMessage())}"
        )
        for name, value in _fields(record).items():
            line += f" {name}={_text(value)}"
        if record.exc_info:
            # The exception from one line per event: a person reads a traceback, and wants it as Python prints it.
            line += "\n" + self.formatException(record.exc_info)
        return line


@lru_cache(maxsize=1)
def _clock(second: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(second))


class JsonFormatter(logging.Formatter):
    def __init__(self, process_name: str) -> None:
        super().__init__()
        self.process_name = process_name

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "process": self.process_name,
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
        }
        for name, value in _fields(record).items():
            # A field never replaces one of ours, or a line could lie about its own origin.
            line[f"{name}_" if name in line else name] = _scalar(value)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _scalar(value: object) -> str | int | float | bool | None:
    match value:
        case str() | None | bool() | int() | float():
            return value
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case _:
            return str(value)


def _text(value: object) -> str:
    """Write a value so that `key=value` pairs can be told apart: quoted when it has a space or a quote in it."""
    scalar = value if type(value) is str else _scalar(value)
    if scalar is None:
        return "-"
    text = str(scalar).lower() if isinstance(scalar, bool) else str(scalar)
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return msgspec.json.encode(text).decode()


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.replace("\r", "\\r").replace("\n", "\\n")
