"""`levelhead alert`: what is printed to be pasted can be read, and an alert is explained by the running service."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.alerts.recognise import read
from app.domain.signal import Action, Target
from app.up import alert
from tests.up.test_cli import levelhead

FILLED = {
    "{{exchange}}": "BYBIT", "{{ticker}}": "BTCUSDT.P", "{{timenow}}": "2026-11-21T12:00:00Z",
    "{{strategy.order.id}}": "Long", "{{strategy.order.price}}": "60000", "{{strategy.market_position}}": "long",
    "{{strategy.prev_market_position}}": "flat", "{{strategy.market_position_size}}": "0.01",
    "{{strategy.position_size}}": "0.01",
}  # fmt: skip


def filled(text: str) -> bytes:
    for placeholder, value in FILLED.items():
        text = text.replace(placeholder, value)
    return text.encode()


def test_what_is_printed_to_be_pasted_can_be_read(tmp_path: Path) -> None:
    shown = levelhead(tmp_path, "alert", "template", "--strategy", "mine")
    assert shown.returncode == 0, shown.stderr
    assert "/webhook/mine" in shown.stdout
    bodies = re.findall(r"^\{$.*?^\}$", shown.stdout, re.MULTILINE | re.DOTALL)
    strategy = read(filled(bodies[0]), "text/plain", path_secret=None)
    assert (strategy.signal.target, strategy.signal.previous) == (Target.LONG, Target.FLAT)
    assert strategy.key == "Long 2026-11-21T12:00:00Z 0.01"
    for word, action in (("buy", Action.OPEN_LONG), ("sell", Action.OPEN_SHORT), ("close", Action.CLOSE)):
        assert read(filled(bodies[1].replace("ACTION", word)), "", path_secret=None).signal.action is action
    script = re.search(r"alert\('(.*)', alert", shown.stdout)
    assert script is not None
    body = script[1].replace("' + syminfo.tickerid + '", "BYBIT:BTCUSDT.P").replace("ACTION", "buy")
    assert read(body.encode(), "", path_secret=None).signal.symbol == "BTCUSDT"


ANSWER = {
    "format": "native",
    "repairs": ["removed a byte order mark before the body"],
    "legs": [
        {
            "action": "close", "symbol": "BTCUSDT", "side": "long", "size": None,
            "orders": [{"account_name": "paper", "side": "sell", "qty": "1.5", "reduce_only": True}],
        }
    ],
    "checks": [{"name": "age", "ok": True, "detail": "closes never expire"}],
    "verdict": "would_execute",
}  # fmt: skip


class Service(HTTPServer):
    answer: tuple[int, dict[str, Any]] = 200, ANSWER
    asked: list[tuple[str, bytes]]


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.asked.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        status, said = self.server.answer
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is not for this."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path, service: Service) -> Path:
    url = f"http://127.0.0.1:{service.server_port}"
    told = {
        "url": url, "admin_email": "a@b", "admin_password": "p", "webhook_url": f"{url}/webhook/demo",
        "webhook_secret": "the-secret", "simulator_url": url,
    }  # fmt: skip
    (tmp_path / "connection.json").write_text(json.dumps(told))
    path = tmp_path / "alert.json"
    path.write_bytes(b'{"action": "close"}')
    return path


def test_an_alert_is_explained_by_the_running_service(
    service: Service, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alert.explain(str(file), "demo", None, file.parent) == 0
    assert service.asked == [("/webhook/demo/the-secret/explain", b'{"action": "close"}')]
    assert capsys.readouterr().out.splitlines() == [
        "would execute",
        "close BTCUSDT",
        "  paper: sell 1.5 at market (reduce-only)",
        "ok  age: closes never expire",
        "mended: removed a byte order mark before the body",
    ]


def test_exits_and_leverage_of_an_opening_are_told() -> None:
    leg = {
        "action": "open_long", "symbol": "BTCUSDT", "size": {"value": "0.1", "unit": "base"}, "orders": [],
        "leverage": "5", "stop_loss": {"pct": "1.5"},
        "take_profit": [{"pct": "1", "fraction": "0.5"}, {"price": "71000", "fraction": "0.5"}],
    }  # fmt: skip
    said = {"verdict": "would_execute", "legs": [leg], "checks": [], "repairs": []}
    assert alert.told(said)[1] == (
        "open_long BTCUSDT, size 0.1 base, leverage 5, stop loss 1.5 %, take profit 1 %, take profit at 71000"
    )


def test_another_strategy_brings_its_own_secret_and_a_refusal_ends_with_1(
    service: Service, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer = 200, ANSWER | {"verdict": "refused", "code": "no_stop", "reason": "no stop", "legs": []}
    assert alert.explain(str(file), "mine", None, file.parent) == 1
    assert service.asked[0][0] == "/webhook/mine/explain"
    assert capsys.readouterr().out.splitlines()[:2] == ["refused (no_stop)", "  no stop"]


def test_what_cannot_be_explained_is_one_sentence(service: Service, file: Path, tmp_path: Path) -> None:
    service.answer = 401, {"code": "unauthorized", "detail": "the secret is wrong"}
    with pytest.raises(alert.AlertError, match="unauthorized: the secret is wrong"):
        alert.explain(str(file), "mine", None, file.parent)
    with pytest.raises(alert.AlertError, match="cannot be read"):
        alert.explain(str(tmp_path / "nothing"), "demo", None, file.parent)
    with pytest.raises(alert.AlertError, match="--url or --data-dir"):
        alert.explain(str(file), "demo", None, tmp_path / "elsewhere")
    with pytest.raises(alert.AlertError, match="start Levelhead first"):
        alert.explain(str(file), "demo", "http://127.0.0.1:9", file.parent)
