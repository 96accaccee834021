"""Rate limits and bans: told in headers, enforced when asked for, lasting as long as they say."""

import asyncio

import pytest

from simulator.faults import FaultKind, FaultOrder, Faults
from tests.simulator.support import Client

INFO = "/v5/account/info"


async def headers(client: Client, path: str = INFO) -> dict[str, str]:
    async with client.session.get(f"{client.url}{path}", headers=client.headers(b"")) as answer:
        return {k: v for k, v in answer.headers.items() if k.startswith("X-Bapi-")}


async def status(client: Client) -> int:
    async with client.session.get(f"{client.url}/v5/market/time") as answer:
        return answer.status


async def test_private_answers_tell_what_is_left_and_public_ones_do_not(client: Client) -> None:
    told = await headers(client)
    assert set(told) == {"X-Bapi-Limit", "X-Bapi-Limit-Status", "X-Bapi-Limit-Reset-Timestamp"}
    assert (told["X-Bapi-Limit"], told["X-Bapi-Limit-Status"]) == ("50", "49")
    assert await headers(client, "/v5/market/time") == {}


async def test_nothing_is_enforced_by_default(client: Client) -> None:
    answers = await asyncio.gather(*(client.post("/v5/order/create", symbol="BTCUSDT") for _ in range(30)))
    assert {a["retCode"] for a in answers} == {10001}


async def test_over_the_limit_until_the_stated_time(client: Client) -> None:
    await client.control("limits", enforce=True, paths={INFO: 2})
    codes: list[int] = []
    while codes != [0, 0, 10006]:  # a second may end between two calls
        codes = [(await client.get(INFO))["retCode"] for _ in range(3)]
    body: dict[str, int] = {}
    while body.get("retCode") != 10006:
        async with client.session.get(f"{client.url}{INFO}", headers=client.headers(b"")) as answer:
            body, told = await answer.json(), answer.headers
    assert told["X-Bapi-Limit-Status"] == "0"
    assert int(told["X-Bapi-Limit-Reset-Timestamp"]) == (body["time"] // 1000 + 1) * 1000
    assert (await client.get("/v5/position/list", "category=linear&symbol=BTCUSDT"))["retCode"] == 0  # its own counter


async def test_an_address_that_asks_too_often_is_shut_out_from_everything(client: Client) -> None:
    await client.control("limits", enforce=True, address_max=3, address_s=60, ban_s=600)
    assert [await status(client) for _ in range(5)] == [200, 200, 200, 403, 403]
    async with client.session.get(f"{client.url}{INFO}", headers=client.headers(b"")) as answer:
        assert (answer.status, await answer.text()) == (403, "403, access too frequent")
    await client.control("limits", enforce=False)  # also lifts bans
    assert await status(client) == 200


async def test_a_ban_shuts_out_until_cleared(client: Client) -> None:
    await client.fault("ip_ban", seconds=100)
    assert await status(client) == 403
    async with client.session.delete(f"{client.url}/control/faults"):
        pass
    assert await status(client) == 200


def test_a_ban_is_extended_by_asking() -> None:
    faults = Faults()
    faults.add(FaultOrder(fault=FaultKind.IP_BAN, seconds=100), now_s=0)
    assert faults.extend(FaultKind.IP_BAN, now_s=99)
    assert faults.rows(now_s=100)[0]["seconds_left"] == 99
    assert not faults.extend(FaultKind.IP_BAN, now_s=199)  # nobody asked meanwhile


@pytest.mark.parametrize(
    ("code", "text"), [(403, "403, access too frequent"), (429, "System level frequency protection")]
)
async def test_plain_refusals_of_the_front_door(client: Client, code: int, text: str) -> None:
    await client.fault("http_status", status=code)
    async with client.session.get(f"{client.url}{INFO}", headers=client.headers(b"")) as answer:
        assert (answer.status, await answer.text()) == (code, text)
        assert not answer.content_type.endswith("json")
