"""Numbers in tables: percentiles, ratios, verdicts. Times come in as nanoseconds and are shown in milliseconds."""

import math
from collections.abc import Sequence

import msgspec

NS_PER_MS = 1_000_000


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least `q` per cent of the values don't exceed; one of the values, never between."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * q / 100) - 1)]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One measured thing, in milliseconds."""

    n: int
    p50: float
    p90: float
    p99: float
    max: float


def summary(values_ns: Sequence[float]) -> Summary:
    def at(q: float) -> float:
        return percentile(values_ns, q) / NS_PER_MS

    return Summary(n=len(values_ns), p50=at(50), p90=at(90), p99=at(99), max=at(100))


def table(title: str, rows: dict[str, Summary], floor: Summary | None = None) -> str:
    """Rows by name; with `floor`, each p50 also as a multiple of the floor's."""
    width = max(len(name) for name in rows)
    head = f"  {'':{width}} {'n':>5} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}" + ("  p50/floor" if floor else "")
    lines = [f"{title}, ms", head]
    for name, row in rows.items():
        cells = " ".join(f"{x:8.3f}" for x in (row.p50, row.p90, row.p99, row.max))
        ratio = f" {row.p50 / floor.p50:9.1f} ×" if floor else ""
        lines.append(f"  {name:{width}} {row.n:5d} {cells}{ratio}")
    return "\n".join(lines)


def verdict(name: str, measured: Summary, floor: Summary, aim: float) -> str:
    """How a path stands to the floor of the same run, at the median and in the tail."""
    ratio = measured.p50 / floor.p50
    said = "reached" if ratio <= aim else "missed"
    return (
        f"{name}: p50 = {ratio:.1f} × floor (aim ≤ {aim:g} ×: {said}), p99 = {measured.p99 / floor.p99:.1f} × floor's "
        f"p99; {measured.p50:.2f} ms and {measured.p99:.2f} ms beside {floor.p50:.2f} ms and {floor.p99:.2f} ms"
    )


def aimed(value: float, aim: float, unit: str = "", *, least: bool = False) -> str:
    """A figure beside its aim: the most that it may be, or the `least`."""
    said = "reached" if (value >= aim if least else value <= aim) else "missed"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}{unit} (aim {'≥' if least else '≤'} {aim:,g}{unit}: {said})"
