"""A key of the wrong kind is refused at the door, with what to do instead."""

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from app.api.credentials import checked
from app.errors import InvalidInput
from app.keys import Credentials
from app.store.accounts import VenueName

BYBIT, BINANCE = VenueName.BYBIT, VenueName.BINANCE
PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def private_pem(
    key: PrivateKey,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


def public_pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("venue", "pem"),
    [
        (BYBIT, private_pem(RSA)),
        (BYBIT, private_pem(RSA, PrivateFormat.TraditionalOpenSSL)),
        (BINANCE, private_pem(RSA)),
        (BINANCE, private_pem(ED25519)),
        (BINANCE, "\r\n" + private_pem(ED25519).replace("\n", "\r\n")),  # from a machine with other line ends
    ],
)
def test_a_private_key_that_the_venue_takes(venue: VenueName, pem: str) -> None:
    assert checked(venue, "key", None, pem) == Credentials(api_key="key", private_key=pem)


@pytest.mark.parametrize("venue", VenueName)
def test_a_secret_is_taken_by_both(venue: VenueName) -> None:
    assert checked(venue, "key", "secret", None) == Credentials(api_key="key", api_secret="secret")


LOCKED = BestAvailableEncryption(b"password")


@pytest.mark.parametrize("venue", VenueName)
@pytest.mark.parametrize(
    ("pem", "says"),
    [
        (private_pem(RSA, encryption=LOCKED), "remove the password with `openssl pkey"),
        (private_pem(RSA, PrivateFormat.TraditionalOpenSSL, LOCKED), "remove the password with `openssl pkey"),
        (private_pem(ED25519, encryption=LOCKED), "remove the password with `openssl pkey"),
        (private_pem(RSA, PrivateFormat.OpenSSH), "OpenSSH's form"),
        (public_pem(RSA), "the public half"),
        (private_pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519"),
        (private_pem(ed448.Ed448PrivateKey.generate()), "neither RSA nor Ed25519"),
        (private_pem(rsa.generate_private_key(65537, 1024)), "1024 bits, and 2048 are needed"),
        (private_pem(RSA).replace("\n", "\\n"), "as it is, with its line breaks"),
        (private_pem(RSA)[:200], "from -----BEGIN to -----END"),
        (private_pem(RSA).replace("A", "!"), "can't be read"),
        ("a-plain-secret", "not a PEM"),
    ],
)
def test_a_private_key_of_no_use_names_its_cure(venue: VenueName, pem: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        checked(venue, "key", None, pem)
    assert (refused.value.code, refused.value.field) == ("bad_key", "private_key")
    assert pem.strip() not in refused.value.detail


def test_bybit_takes_no_ed25519() -> None:
    with pytest.raises(InvalidInput, match="Bybit takes an RSA key") as refused:
        checked(BYBIT, "key", None, private_pem(ED25519))
    assert refused.value.code == "bad_key"


@pytest.mark.parametrize(
    ("api_key", "api_secret", "field"),
    [
        ("key\n", "secret", "api_key"),
        ("a key", "secret", "api_key"),
        ("ключ", "secret", "api_key"),
        ("key", " secret", "api_secret"),
        ("key", "secret\r\n", "api_secret"),
        ("key", private_pem(ED25519), "api_secret"),
    ],
)
def test_what_came_along_while_copying_is_seen(api_key: str, api_secret: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked(BINANCE, api_key, api_secret, None)
    assert (refused.value.code, refused.value.field) == ("bad_key", field)


async def test_the_door_answers_422_and_never_repeats_the_key(admin: httpx.AsyncClient) -> None:
    body = {"name": "door", "venue": "bybit", "environment": "testnet", "api_key": "k"}
    pem = private_pem(ED25519)
    answer = await admin.post("/accounts", json=body | {"private_key": pem})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "bad_key", "private_key")
    assert pem.splitlines()[1] not in answer.text
    made = await admin.post("/accounts", json=body | {"venue": "binance", "private_key": pem})
    assert made.status_code == 201, made.text
    changed = await admin.patch(f"/accounts/{made.json()['id']}", json={"api_key": "k", "private_key": "none"})
    assert (changed.status_code, changed.json()["code"]) == (422, "bad_key")
