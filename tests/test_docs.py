"""The documents keep up with the code: what a reader looks up is there, links lead somewhere, examples are read."""

import ast
import json
import re
from pathlib import Path

import pytest

from app.alerts.codes import AlertCode
from app.alerts.recognise import FORMATS, read
from app.api.problems import OF_STATUS, STATUS_OF_CODE
from app.cli import COMMANDS
from app.domain.drift import DRIFTS, DriftKind
from app.domain.position import CloseReason
from app.domain.refusals import Outcome
from app.settings import MASTER_KEY_FILE, TESTS_PREFIX, Settings, env_name
from app.store.inbox import AlertStatus
from simulator.faults import FaultKind

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(path for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern))
ALERTS = ("README.md", "docs/alerts.md")

# A chart's values, as the order-fill alert of a strategy fills them.
LONG_FROM_FLAT = {
    "exchange": "BYBIT",
    "ticker": "BTCUSDT.P",
    "time": "2026-01-05T12:00:00Z",
    "timenow": "2026-01-05T12:03:07Z",
    "open": "64000.5",
    "high": "64100",
    "low": "63950.1",
    "close": "64080",
    "volume": "12.345",
    'plot("Stop")': "66000.25",
    "strategy.order.action": "buy",
    "strategy.order.contracts": "0.015",
    "strategy.order.price": "64080",
    "strategy.order.id": "Long",
    "strategy.position_size": "0.015",
    "strategy.market_position": "long",
    "strategy.market_position_size": "0.015",
    "strategy.prev_market_position": "flat",
    "strategy.prev_market_position_size": "0",
}
FLAT_FROM_LONG = LONG_FROM_FLAT | {
    "strategy.order.action": "sell",
    "strategy.order.id": "Close entry(s) order Long",
    "strategy.position_size": "0",
    "strategy.market_position": "flat",
    "strategy.market_position_size": "0",
    "strategy.prev_market_position": "long",
    "strategy.prev_market_position_size": "0.015",
}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def in_code(text: str) -> set[str]:
    """Everything that stands between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def alert_blocks() -> list[tuple[str, str]]:
    """(document, body) of each block that is marked as an alert."""
    return [
        (name, body)
        for name in ALERTS
        for body in re.findall(r"^```json alert\n(.*?)^```$", text_of(name), re.DOTALL | re.MULTILINE)
    ]


def filled(body: str, chart: dict[str, str]) -> str:
    return re.sub(r"\{\{(.+?)\}\}", lambda found: chart[found[1]], body)


def codes_in(folder: str) -> set[str]:
    """The codes that errors are raised with: InvalidInput("…"), Problem(404, "…"), Conflict(…, kind="…")."""
    found: set[str] = set()
    for path in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"InvalidInput": 0, "Problem": 1}.get(node.func.id)
                given: list[ast.expr] = [] if place is None else list(node.args[place : place + 1])
                if node.func.id == "Conflict":
                    given += [keyword.value for keyword in node.keywords if keyword.arg == "kind"]
                found |= {one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def anchors_of(text: str) -> set[str]:
    """The anchors of a document's headings, as they are made on the pages that show it."""
    headings = re.findall(
        r"^#{1,6} (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_each_setting_is_documented(field: str) -> None:
    assert env_name(field) in in_code(text_of("docs/settings.md"))


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {*map(env_name, Settings.__struct_fields__), MASTER_KEY_FILE}
    for path in DOCUMENTS:
        named = set(re.findall(r"\bLEVELHEAD_[A-Z0-9_]*[A-Z0-9]\b", path.read_text(encoding="utf-8")))
        ours = {name for name in named if not f"{name}_".startswith(TESTS_PREFIX)}
        assert ours - known <= {"LEVELHEAD_PROT"}, path.name


def test_each_default_of_a_setting_is_the_documented_one() -> None:
    rows = dict(re.findall(r"^\| `(LEVELHEAD_\w+)` \| (\S+) \|", text_of("docs/settings.md"), re.MULTILINE))
    defaults = Settings()
    for field in Settings.__struct_fields__:
        value = getattr(defaults, field)
        said = rows[env_name(field)].strip("`")
        if value or value == 0:
            assert said == str(value), field
        else:
            assert said in ("none", "./data"), field


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_documented(name: str) -> None:
    assert name in in_code(text_of("docs/alerts.md"))


@pytest.mark.parametrize("code", [*Outcome, *AlertCode, *AlertStatus, *CloseReason])
def test_each_code_of_an_alert_and_a_position_is_documented(code: str) -> None:
    assert str(code) in in_code(text_of("docs/outcomes.md"))


def test_each_code_of_the_api_is_documented() -> None:
    codes = {code for code, _ in OF_STATUS.values()} | set(STATUS_OF_CODE)
    for folder in ("app/api", "app/store", "app/flows"):
        codes |= codes_in(folder)
    assert codes > {"not_found", "key_conflict", "unavailable", "bad_value", "already_closed", "unknown_account"}
    assert codes - in_code(text_of("docs/outcomes.md")) == set()


@pytest.mark.parametrize("kind", DriftKind)
def test_each_drift_is_documented_with_what_becomes_of_it(kind: DriftKind) -> None:
    [row] = re.findall(rf"^\| `{kind}` \|(.+)\|$", text_of("docs/operations.md"), re.MULTILINE)
    _, after, happens = (cell.strip() for cell in row.split("|"))
    assert after == f"{DRIFTS[kind].after_s:g} s"
    assert happens.startswith("Heals" if DRIFTS[kind].heals else "Needs an operator")


@pytest.mark.parametrize("fault", FaultKind)
def test_each_fault_of_the_simulator_is_documented(fault: FaultKind) -> None:
    assert str(fault) in in_code(text_of("docs/simulator.md"))


@pytest.mark.parametrize("command", [*COMMANDS, "simulator"])
def test_each_subcommand_is_documented(command: str) -> None:
    text = text_of("README.md") + text_of("docs/operations.md")
    assert re.search(rf"levelhead {command}\b", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors_of(target.read_text(encoding="utf-8")), link


def test_each_decision_stands_in_the_list_of_decisions() -> None:
    listed = text_of("docs/adr/README.md")
    for path in (ROOT / "docs/adr").glob("[0-9]*.md"):
        assert f"({path.name})" in listed


@pytest.mark.parametrize("chart", [LONG_FROM_FLAT, FLAT_FROM_LONG], ids=["long from flat", "flat from long"])
@pytest.mark.parametrize(("name", "body"), alert_blocks())
def test_each_alert_in_the_documents_is_read(name: str, body: str, chart: dict[str, str]) -> None:
    reading = read(filled(body, chart).encode(), "text/plain", path_secret=None)
    assert reading.secret == "the strategy's secret"
    assert reading.repairs == ()
    assert reading.signal.symbol in ("BTCUSDT", "ETHUSDT")


def test_both_documents_show_alerts() -> None:
    assert {name for name, _ in alert_blocks()} == set(ALERTS)


def test_a_block_of_json_that_is_no_alert_is_json() -> None:
    for path in DOCUMENTS:
        for body in re.findall(r"^```json\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            json.loads(body)
