"""The smallest position that the exchange takes: opened with a stop, seen, closed."""

from app.resources import Connected
from app.settings import Settings
from app.up.live import Step, trade_minimum


async def test_a_minimal_position_is_opened_protected_and_closed(
    connected: Connected, settings: Settings, symbol: str
) -> None:
    steps: list[Step] = []
    ok = await trade_minimum(connected.venue, symbol, steps.append, recv_window_ms=settings.recv_window_ms)
    for step in steps:
        print(step.ok, step.name, step.detail, f"{step.took_ms:.0f} ms")  # noqa: T201 - shown with -s, and when it fails
    assert ok, [step for step in steps if step.ok is False]
    assert (await connected.venue.standing(symbol)).holdings == ()
