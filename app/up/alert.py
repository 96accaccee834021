"""`levelhead alert`: the message to paste into the chart, and what a message would do."""

import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec

from app.errors import LevelheadError
from app.up.first_start import ConnectionInfo

TIMEOUT_S = 15.0
DEMO = "demo"

STRATEGY = """\
{
  "secret": "SECRET",
  "id": "{{strategy.order.id}} {{timenow}} {{strategy.position_size}}",
  "time": "{{timenow}}",
  "symbol": "{{exchange}}:{{ticker}}",
  "target": "{{strategy.market_position}}",
  "previous": "{{strategy.prev_market_position}}",
  "size": {"base": "{{strategy.market_position_size}}"},
  "price": "{{strategy.order.price}}"
}"""
INDICATOR = """\
{
  "secret": "SECRET",
  "id": "ACTION {{ticker}} {{timenow}}",
  "time": "{{timenow}}",
  "symbol": "{{exchange}}:{{ticker}}",
  "action": "ACTION"
}"""
SCRIPT = """\
alert('{"secret": "SECRET", "symbol": "' + syminfo.tickerid + '", "action": "ACTION"}', alert.freq_all)"""


class AlertError(LevelheadError):
    """What a person asked of an alert cannot be answered; the message says what to mend."""


def template(strategy: str) -> str:
    """The messages for each kind of chart alert, to be pasted."""
    return f"""\
Webhook URL of strategy {strategy}: https://YOUR-HOST/webhook/{strategy}
Put its secret in the place of SECRET. Size, stop and targets that a message does not name are the strategy's defaults.

A strategy's order fills (the message box of an alert on the strategy): the position ends where the chart's does, and an
alert that was missed heals at the next one.

{STRATEGY}

An indicator's condition, a price or a drawing: one alert for each action; write buy, sell or close for ACTION.

{INDICATOR}

alert() inside a script: nothing is filled there, the script builds the text itself.

{SCRIPT}
"""


def explain(path: str, strategy: str, url: str | None, data_dir: Path) -> int:
    """Ask the running service what the alert in a file (`-`: standard input) would do; 1 if it would be refused.

    The demo strategy's secret is known from connection.json; another strategy's has to be in the alert.
    """
    body = _read(path)
    info = _connection(data_dir)
    base = url or (None if info is None else info.url)
    if base is None:
        raise AlertError(f"there is no connection.json in {data_dir}: say where Levelhead is with --url or --data-dir")
    known = info is not None and strategy == DEMO and info.url == base.rstrip("/")
    secret = f"/{info.webhook_secret}" if known and info is not None else ""
    try:
        # A proxy of the environment is for the outside, not for this machine.
        with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
            answer = client.post(f"{base.rstrip('/')}/webhook/{strategy}{secret}/explain", content=body)
        said = answer.json()
    except (httpx.HTTPError, ValueError) as exc:
        raise AlertError(f"nobody explains alerts at {base} ({type(exc).__name__}): start Levelhead first") from None
    if answer.status_code != 200:
        raise AlertError(f"{said.get('code')}: {said.get('detail')}")
    print("\n".join(told(said)))
    return 1 if said["verdict"] == "refused" else 0


def told(said: dict[str, Any]) -> list[str]:
    """An explanation in lines."""
    lines = [said["verdict"].replace("_", " ") + (f" ({said['code']})" if "code" in said else "")]
    if "reason" in said:
        lines.append(f"  {said['reason']}")
    for leg in said["legs"]:
        size = "" if leg["size"] is None else f", size {leg['size']['value']} {leg['size']['unit']}"
        lines.append(f"{leg['action']} {leg['symbol']}{size}{_exits(leg)}")
        for order in leg["orders"]:
            reduces = " (reduce-only)" if order["reduce_only"] else ""
            lines.append(f"  {order['account_name']}: {order['side']} {order['qty']} at market{reduces}")
    lines += [f"{'ok ' if check['ok'] else 'NOT'} {check['name']}: {check['detail']}" for check in said["checks"]]
    return lines + [f"mended: {repair}" for repair in said["repairs"]]


def _exits(leg: dict[str, Any]) -> str:
    """Its leverage and exits, as far as the explanation names them."""
    said = [f", leverage {leg['leverage']}"] if "leverage" in leg else []
    for name in ("stop_loss", "take_profit"):
        levels = leg.get(name, [])
        for level in levels if isinstance(levels, list) else [levels]:
            at = f"{level['pct']} %" if "pct" in level else f"at {level['price']}"
            said.append(f", {name.replace('_', ' ')} {at}")
    return "".join(said)


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as exc:
        raise AlertError(f"{path} cannot be read: {exc.strerror}") from None


def _connection(data_dir: Path) -> ConnectionInfo | None:
    try:
        return msgspec.json.decode((data_dir / "connection.json").read_bytes(), type=ConnectionInfo)
    except (OSError, msgspec.MsgspecError):
        return None
