"""Health as numbers, in the text format that Prometheus reads (https://prometheus.io/docs/instrumenting/exposition_formats/).

Public like health: markets, symbols and counts, and nothing of accounts, positions or money.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from litestar import Controller, get

from app.api.access import PUBLIC
from app.api.health import Check, look
from app.api.inject import Injected
from app.queue import SymbolFeed

TEXT_FORMAT: Final = "text/plain; version=0.0.4"  # Litestar adds the charset

Sample = tuple[Mapping[str, str], float]


class MetricsController(Controller):
    path = "/metrics"
    tags = ("health",)
    opt = PUBLIC

    @get(media_type=TEXT_FORMAT)
    async def metrics(self, resources: Injected) -> str:
        """What `/health/ready` says, for Prometheus. 200 also while parts are missing: their `levelhead_up` is 0."""
        return "".join(_lines(await look(resources)))


def _lines(checks: Mapping[str, Check]) -> Iterator[str]:
    yield from _gauge(
        "levelhead_up", "1 if a part is there and does its work.",
        (({"part": name}, check.ok) for name, check in checks.items()),
    )  # fmt: skip
    for name in ("worker", "watcher"):
        count = checks[name].count
        samples: list[Sample] = [] if count is None else [({}, count)]
        yield from _gauge(f"levelhead_{name}s", f"Processes of the kind {name} that live.", samples)
    yield from _of_feeds(checks["feeds"].symbols or [])


def _of_feeds(feeds: list[SymbolFeed]) -> Iterator[str]:
    labelled = [({"market": one.market, "symbol": one.symbol, "watcher": one.watcher}, one) for one in feeds]
    yield from _gauge(
        "levelhead_feed_linked", "1 if the stream of the symbol's prices is connected.",
        ((labels, one.linked) for labels, one in labelled),
    )  # fmt: skip
    yield from _gauge(
        "levelhead_feed_age_seconds", "Since the last trade of the symbol was heard.",
        ((labels, one.age_ms / 1000) for labels, one in labelled if one.age_ms is not None),
    )  # fmt: skip
    yield from _gauge(
        "levelhead_armed_levels", "Levels of the symbol that wait for their price.",
        ((labels, one.levels) for labels, one in labelled),
    )  # fmt: skip
    yield from _gauge(
        "levelhead_ticks_per_second", "Trades of the symbol that were heard in the last second.",
        ((labels, one.ticks_per_s) for labels, one in labelled),
    )  # fmt: skip
    yield from _gauge(
        "levelhead_fires", "Levels of the symbol that fired in the last minute.",
        ((labels, 0 if one.fires is None else one.fires.count) for labels, one in labelled),
    )  # fmt: skip
    yield from _gauge(
        "levelhead_fire_latency_seconds",
        "Of the fires of the last minute: from the tick to the close that leaves for the wire.",
        (
            ({**labels, "quantile": quantile}, milliseconds / 1000)
            for labels, one in labelled
            if one.fires is not None
            for quantile, milliseconds in (("0.5", one.fires.p50_ms), ("0.99", one.fires.p99_ms))
        ),
    )


def _gauge(name: str, told: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {told}\n# TYPE {name} gauge\n"
    for labels, value in samples:
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{shown}}} {float(value)!r}\n" if shown else f"{name} {float(value)!r}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
