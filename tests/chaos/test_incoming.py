"""Faults 1-10: what was answered 2xx is never lost, what is sent twice is done once, what is wrong is refused."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import Secret, Settings
from app.up.datadir import DataDir
from tests.chaos.proxy import Proxy, proxy, through, upstream_of
from tests.chaos.support import Chaos, held_there, is_sound, one_end, opened
from tests.support import desk as desks
from tests.support.desk import Desk, outcome
from tests.support.house import House
from tests.support.stack import free_port

pytestmark = pytest.mark.timeout(180)

SENDER_WAITS_S = 3.0  # a chart hangs up after so long, and takes the alert for lost


@pytest.fixture(scope="module")
async def desk(chaos: Chaos) -> Desk:
    return await desks.desk(chaos.stack, "bybit-incoming")


@pytest.fixture(scope="module")
async def far(chaos: Chaos) -> AsyncIterator[tuple[Proxy, str]]:
    """A second API of the stack whose PostgreSQL is reached through a proxy; the proxy, and the API's address."""
    url = DataDir(chaos.stack.data_dir).complete(Settings()).database_url.reveal()
    port = free_port()
    async with (
        proxy(upstream_of(url)) as between,
        chaos.beside("api", database_url=Secret(through(between, url)), port=port),
    ):
        address = f"http://127.0.0.1:{port}"

        async def is_ready() -> bool:
            return (await chaos.stack.http.get(f"{address}/health/ready")).status_code == 200

        await chaos.stack.eventually(is_ready, what="the second API")
        yield between, address


def opening(symbol: str, **more: object) -> dict[str, object]:
    return {"symbol": symbol, "action": "buy", "size": {"base": "1"}, "id": uuid4().hex, **more}


async def post(desk: Desk, body: object, url: str | None = None) -> httpx.Response:
    """As the sender's machine does: it waits its seconds, and no more."""
    address = f"{url or desk.stack.connection['url']}/webhook/{desk.strategy}/{desk.secret}"
    return await desk.stack.http.post(address, json=body, timeout=SENDER_WAITS_S)


async def posted(desk: Desk, body: object) -> httpx.Response:
    """Sent again until somebody answers, as a sender does whose receiver was away."""
    answers: list[httpx.Response] = []

    async def answered() -> bool:
        answers.append(await post(desk, body))
        return True

    await desk.stack.eventually(answered, what="an answer to the alert")
    return answers[-1]


async def stored(desk: Desk, symbol: str) -> list[dict[str, Any]]:
    """The alerts for this symbol that are in the inbox."""
    found = (await desk.stack.get(f"/alerts?strategy={desk.strategy}&limit=100"))["items"]
    return [alert for alert in found if alert["signal"]["symbol"] == symbol]


async def test_01_a_crash_before_the_inbox_commit_answers_nothing_and_the_resend_is_new(
    chaos: Chaos, desk: Desk
) -> None:
    symbol, body = "BTCUSDT", opening("BTCUSDT")
    await chaos.stack.price(symbol, 100)
    async with chaos.crash("receive.before_commit", "api", symbol):
        with pytest.raises(httpx.TransportError):
            await post(desk, body)
    again = await posted(desk, body)
    assert (again.status_code, again.json()["status"]) == (202, "accepted")
    await outcome(chaos.stack, again.json()["alert_id"], "executed")
    assert [alert["id"] for alert in await stored(desk, symbol)] == [again.json()["alert_id"]]
    await is_sound(desk, symbol)


async def test_02_a_crash_after_the_commit_loses_nothing_and_the_resend_is_a_duplicate(
    chaos: Chaos, desk: Desk
) -> None:
    symbol, body = "ETHUSDT", opening("ETHUSDT")
    await chaos.stack.price(symbol, 100)
    async with chaos.crash("receive.after_commit", "api", symbol):
        with pytest.raises(httpx.TransportError):
            await post(desk, body)
    again = await posted(desk, body)
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    await outcome(chaos.stack, again.json()["alert_id"], "executed")
    assert [alert["id"] for alert in await stored(desk, symbol)] == [again.json()["alert_id"]]
    await is_sound(desk, symbol)


@pytest.mark.parametrize(("symbol", "committed"), [("SOLUSDT", True), ("DOTUSDT", False)])
async def test_03_a_commit_whose_outcome_is_unknown_is_a_503_and_the_resend_settles_it(
    chaos: Chaos, desk: Desk, far: tuple[Proxy, str], symbol: str, committed: bool
) -> None:
    between, address = far
    body = opening(symbol)
    await chaos.stack.price(symbol, 100)
    if committed:
        between.cut_answer_to(str(body["id"]).encode())
    else:
        between.cut_request(str(body["id"]).encode())
    answer = await post(desk, body, address)
    await between.was_cut()
    assert answer.status_code == 503, answer.text
    again = await posted(desk, body)
    assert again.json()["status"] == ("duplicate" if committed else "accepted")
    await outcome(chaos.stack, again.json()["alert_id"], "executed")
    assert len(await stored(desk, symbol)) == 1
    await is_sound(desk, symbol)


async def test_04_the_same_alert_many_times_is_one_intent(chaos: Chaos, desk: Desk, far: tuple[Proxy, str]) -> None:
    """In turn and at once, by two APIs."""
    symbol, body, addresses = "XRPUSDT", opening("XRPUSDT"), (None, far[1])
    await chaos.stack.price(symbol, 100)
    answers = await asyncio.gather(*(post(desk, body, addresses[n % 2]) for n in range(12)))
    answers += [await post(desk, body, url) for url in addresses]
    assert sorted(answer.status_code for answer in answers) == [200] * 13 + [202]
    [alert_id] = {answer.json()["alert_id"] for answer in answers}
    alert = await outcome(chaos.stack, alert_id, "executed")
    assert len(alert["instructions"]) == 1
    assert (await post(desk, body)).json() == {"alert_id": alert_id, "status": "duplicate"}, "also when it is done"
    await is_sound(desk, symbol)
    assert len(await desk.traded(symbol)) == 1


async def test_05_of_a_close_and_an_open_in_the_wrong_order_the_strategys_own_time_decides(
    chaos: Chaos, desk: Desk
) -> None:
    now = datetime.now(UTC)
    times = [(now - timedelta(seconds=9 - n)).isoformat() for n in range(4)]
    await chaos.stack.price("LINKUSDT", 100)
    await chaos.stack.price("DOGEUSDT", 100)

    async def sent(symbol: str, target: str, time: str) -> str:
        alert_id = await desk.alert(symbol, target, target=target, time=time, size={"base": "1"})
        return str((await one_end(chaos.stack, alert_id))["outcome"]["code"])

    # What was opened and closed again arrives as close, open: nothing is opened.
    assert await sent("LINKUSDT", "flat", times[1]) == "nothing_to_do"
    assert await sent("LINKUSDT", "long", times[0]) == "out_of_order"
    assert await opened(desk, "LINKUSDT") == 0
    # What was closed and opened anew arrives as open, close: it stays open.
    assert await sent("DOGEUSDT", "long", times[0]) == "executed"
    assert await sent("DOGEUSDT", "long", times[3]) == "nothing_to_do"
    assert await sent("DOGEUSDT", "flat", times[2]) == "out_of_order"
    await is_sound(desk, "DOGEUSDT")
    assert (await held_there(desk, "DOGEUSDT"))[0] == "long"


async def test_06_the_same_id_with_another_body_is_a_conflict_and_warned_of(chaos: Chaos, desk: Desk) -> None:
    symbol, body = "ADAUSDT", opening("ADAUSDT")
    await chaos.stack.price(symbol, 100)
    first = await post(desk, body)
    other = await post(desk, {**body, "size": {"base": "2"}})
    assert (other.status_code, other.json()["code"]) == (409, "key_conflict")
    assert first.json()["alert_id"] in other.json()["detail"]
    assert f"same id, other body strategy={desk.strategy}" in chaos.stack.output()
    await outcome(chaos.stack, first.json()["alert_id"], "executed")
    await is_sound(desk, symbol)
    assert await desk.traded(symbol) == [("Buy", "1")]


async def test_07_a_replay_after_hours_is_too_old(each_house: House) -> None:
    house, now = each_house, datetime.now(UTC)
    body = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
    body["time"] = now.isoformat()
    assert (await house.alert(**body))["code"] == "executed"
    assert (await house.alert(symbol="BTCUSDT", action="close"))["code"] == "executed"
    # The clocks of the program and of its inbox, three hours later.
    house.resources.now = lambda: now + timedelta(hours=3)
    await house.resources.pool.execute("UPDATE alert_keys SET claimed_at = claimed_at - interval '3 hours'")
    sent = len(await house.sent())
    ended = await house.alert(**body)
    assert (ended["status"], ended["code"]) == ("expired", "too_old"), ended
    assert len(await house.sent()) == sent
    assert await house.held() == ("flat", "0")


async def test_08_a_handler_that_is_too_slow_answers_503_before_its_sender_hangs_up(
    chaos: Chaos, desk: Desk, far: tuple[Proxy, str]
) -> None:
    """And what gets through after all is one alert, of which the resend is a duplicate."""
    symbol, body, (between, address) = "BNBUSDT", opening("BNBUSDT"), far
    await chaos.stack.price(symbol, 100)
    between.blackhole()
    answer = await post(desk, body, address)  # raises if it takes as long as the sender waits
    assert answer.status_code == 503, answer.text
    between.flow()
    again = await posted(desk, body)
    assert again.status_code in (200, 202)
    await outcome(chaos.stack, again.json()["alert_id"], "executed")
    assert len(await stored(desk, symbol)) == 1
    await is_sound(desk, symbol)


VALID: dict[str, object] = {
    "symbol": "BTCUSDT", "action": "buy", "size": {"base": "1"}, "stop_loss": {"pct": 1}, "take_profit": {"pct": 2},
    "leverage": 3, "time": "2026-01-05T12:00:00Z", "id": "fuzz", "max_age_s": 60,
}  # fmt: skip

WRONG: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 422),
    "malformed": (b'{"symbol": "BTCUSDT", "action": ', 422),
    "huge": (b'{"symbol": "BTCUSDT", "action": "buy", "note": "' + b"x" * 70_000 + b'"}', 413),
    "nan": (b'{"symbol": "BTCUSDT", "action": "buy", "size": {"base": NaN}}', 422),
    "infinite": (b'{"symbol": "BTCUSDT", "action": "buy", "size": {"base": 1e999}}', 422),
    "nested": (b'{"symbol": "BTCUSDT", "action": "buy", "note": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 422),
    "utf-16": (json.dumps(VALID).encode("utf-16"), 422),
    "latin-1": (b'{"symbol": "BTCUSDT", "action": "buy", "note": "caf\xe9"}', 422),
    "null character": (b'{"symbol": "BTC\\u0000USDT", "action": "buy"}', 422),
    "a list": (b"[1]", 422),  # one of alerts is read as several orders
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from([*VALID, "target", "previous", "trailing", "break_even", "price", "secret"])
CHANGED = st.builds(lambda name, value: {**VALID, name: value}, FIELDS, JSON)
TEXTS = st.builds(lambda value: json.dumps(value).encode(), CHANGED | JSON)
CUT = st.builds(lambda text, at: text[: at % (len(text) + 1)], TEXTS, st.integers(0, 400))
CHARSETS = st.builds(
    lambda value, charset: json.dumps(value, ensure_ascii=False).encode(charset, "replace"),
    CHANGED,
    st.sampled_from(["utf-16", "utf-32", "latin-1", "cp037"]),
)
BODIES = st.binary(max_size=300) | TEXTS | CUT | CHARSETS
TYPES = st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded", "a/b; charset=cp037"])


@pytest.fixture(scope="module")
async def inbox_of_nobody(chaos: Chaos) -> tuple[str, dict[str, str]]:
    """The webhook of a strategy that trades no account, and the headers of somebody who may look at its alerts."""
    secret = await desks.strategy(chaos.stack, "fuzz", {})
    await chaos.stack.get("/alerts")
    return f"{chaos.stack.connection['url']}/webhook/fuzz/{secret}", chaos.stack.headers()


@pytest.mark.parametrize("name", WRONG)
async def test_09_a_wrong_body_is_a_4xx_with_a_reason(
    chaos: Chaos, inbox_of_nobody: tuple[str, dict[str, str]], name: str
) -> None:
    raw, status = WRONG[name]
    answer = await chaos.stack.http.post(inbox_of_nobody[0], content=raw)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True), answer.text
    assert (await chaos.stack.get("/alerts?strategy=fuzz"))["items"] == []


async def test_09_no_body_is_answered_with_a_5xx_or_half_stored(
    chaos: Chaos, inbox_of_nobody: tuple[str, dict[str, str]]
) -> None:
    url, headers = inbox_of_nobody
    alerts = f"{chaos.stack.connection['url']}/api/v1/alerts?strategy=fuzz&limit=1"

    def search() -> None:
        with httpx.Client(trust_env=False, timeout=10) as http:

            def newest() -> dict[str, Any] | None:
                items = http.get(alerts, headers=headers).raise_for_status().json()["items"]
                return items[0] if items else None

            seen = [newest()]

            @settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
            @given(raw=BODIES, kind=TYPES)
            def any_body(raw: bytes, kind: str) -> None:
                before = seen[-1]
                answer = http.post(url, content=raw, headers={"content-type": kind})
                after = newest()
                seen.append(after)
                if answer.status_code == 202:
                    assert after is not None
                    assert (after["id"], after["status"]) == (answer.json()["alert_id"], "refused")
                else:
                    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
                    assert answer.status_code == 200 or answer.json()["detail"]
                    assert after == before

            any_body()

    await asyncio.to_thread(search)


async def test_10_after_a_downtime_an_opening_has_expired_and_a_close_has_not(chaos: Chaos, desk: Desk) -> None:
    await chaos.stack.price("AVAXUSDT", 100)
    await chaos.stack.price("UNIUSDT", 100)
    await desk.executed("UNIUSDT", "buy", size={"base": "1"})
    # Nobody works until the alerts are past their age.
    before = chaos.stack.pid("worker")
    async with chaos.stopped("worker"):
        late = await desk.alert("AVAXUSDT", "buy", size={"base": "1"}, max_age_s=1)
        close = await desk.alert("UNIUSDT", "close", max_age_s=1)
        await asyncio.sleep(1.1)
        os.kill(before, signal.SIGKILL)
    await chaos.is_back("worker", before)
    assert (await outcome(chaos.stack, late, "too_old"))["status"] == "expired"
    await outcome(chaos.stack, close, "executed")
    assert await desk.orders("AVAXUSDT") == []
    await desk.becomes("UNIUSDT", status="closed")
    await is_sound(desk, "UNIUSDT")
