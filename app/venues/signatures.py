"""How requests are signed, whichever venue's: HMAC in lower-case hex, private keys in base64. A key is read once."""

import base64
from collections.abc import Callable
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from app.keys import hmac_sha256

Sign: TypeAlias = Callable[[bytes], str]


def with_secret(secret: str) -> Sign:
    digest = hmac_sha256(secret.encode())
    return lambda text: digest(text).hex()


def private_key(pem: str | None) -> object:
    """None if it cannot be read, or has a password."""
    try:
        return serialization.load_pem_private_key((pem or "").encode(), password=None)
    except (ValueError, TypeError):
        return None


def with_rsa(key: rsa.RSAPrivateKey) -> Sign:
    """PKCS #1 v1.5."""
    return lambda text: base64.b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()


def with_ed25519(key: ed25519.Ed25519PrivateKey) -> Sign:
    return lambda text: base64.b64encode(key.sign(text)).decode()
