"""RSA keys beside HMAC, and what a key may not do though it signs well."""

import base64
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from simulator.keys import ApiKey
from tests.simulator.support import Client

PUBLIC = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def rsa_pair() -> tuple[str, Callable[[bytes], str]]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(payload: bytes) -> str:
        return base64.b64encode(private.sign(payload, padding.PKCS1v15(), hashes.SHA256())).decode()

    return private.public_key().public_bytes(*PUBLIC).decode(), sign


def ed25519_pair() -> tuple[str, Callable[[bytes], str]]:
    private = ed25519.Ed25519PrivateKey.generate()
    return private.public_key().public_bytes(*PUBLIC).decode(), lambda p: base64.b64encode(private.sign(p)).decode()


@pytest.mark.parametrize(("make", "algorithm"), [(rsa_pair, "RSA"), (ed25519_pair, "ED25519")])
def test_a_signature_fits_its_key_and_payload_only(
    make: Callable[[], tuple[str, Callable[[bytes], str]]], algorithm: str
) -> None:
    public, sign = make()
    key = ApiKey(public_key=public)
    assert key.algorithm == algorithm
    assert key.verifies(b"what was sent", sign(b"what was sent"))
    assert not key.verifies(b"what was sent!", sign(b"what was sent"))
    assert not key.verifies(b"what was sent", make()[1](b"what was sent"))
    for nonsense in ("", "not base64", "00ff"):
        assert not key.verifies(b"what was sent", nonsense)


def test_a_key_has_one_way_to_sign() -> None:
    for key in (ApiKey(), ApiKey(secret="s", public_key="p"), ApiKey(public_key="no pem")):
        with pytest.raises(ValueError, match=r"public_key|PEM"):
            key.check()


async def test_an_rsa_key_on_rest_and_socket(client: Client) -> None:
    public, sign = rsa_pair()
    await client.control("accounts", api_key="r", public_key=public)
    other = Client(client.url, client.session, "r", signs=sign)
    assert (await other.get("/v5/account/info"))["retCode"] == 0
    assert (await other.market("Buy", "0.01"))["retCode"] == 0
    assert (await other.get("/v5/user/query-api"))["result"]["rsaPublicKey"] == public
    socket = await other.private("order")
    await other.market("Buy", "0.01")
    await socket.until_order("Filled")
    await socket.link.close()
    other.signs = rsa_pair()[1]
    assert (await other.get("/v5/account/info"))["retCode"] == 10004
    with pytest.raises(AssertionError):
        await other.private("order")


async def test_there_is_no_ed25519_here(client: Client) -> None:
    public, sign = ed25519_pair()
    await client.control("accounts", api_key="e", public_key=public)
    other = Client(client.url, client.session, "e", signs=sign)
    assert (await other.get("/v5/account/info"))["retCode"] == 10004


async def test_permissions_are_told_and_kept(client: Client) -> None:
    async def told() -> dict[str, object]:
        result: dict[str, object] = (await client.get("/v5/user/query-api"))["result"]
        return result

    await client.control("permissions", api_key="sim-key", withdraw=True)
    assert "Withdraw" in (await told())["permissions"]["Wallet"]  # type: ignore[index]
    await client.control("permissions", api_key="sim-key", withdraw=False, read_only=True)
    row = await told()
    assert (row["readOnly"], row["permissions"]["Wallet"]) == (1, [])  # type: ignore[index]
    assert (await client.market("Buy", "0.01"))["retCode"] == 10005
    await client.control("permissions", api_key="sim-key", read_only=False, trade=False)
    assert (await told())["permissions"]["ContractTrade"] == []  # type: ignore[index]
    assert (await client.market("Buy", "0.01"))["retCode"] == 10005
    assert await client.rows("/v5/position/list", "category=linear&symbol=BTCUSDT")  # reading goes on


async def test_addresses_and_expiry(client: Client) -> None:
    await client.control("permissions", api_key="sim-key", ips=["127.0.0.1"])
    assert (await client.get("/v5/user/query-api"))["result"]["ips"] == ["127.0.0.1"]
    await client.control("permissions", api_key="sim-key", ips=["192.0.2.1"])
    assert (await client.get("/v5/user/query-api"))["retCode"] == 10010
    await client.control("permissions", api_key="sim-key", ips=[], expired=True)
    assert (await client.get("/v5/user/query-api"))["retCode"] == 33004


async def test_an_expired_stamp_of_the_socket_is_refused(client: Client) -> None:
    link = await client.session.ws_connect(f"{client.url}/v5/private")
    expires = str(time.time_ns() // 1_000_000 - 1)
    await link.send_json({"op": "auth", "args": [client.key, expires, client.sign(f"GET/realtime{expires}".encode())]})
    assert (await link.receive_json(timeout=10))["success"] is False
    await link.close()
