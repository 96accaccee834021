"""API keys: how each signs, and what it may do. The face says which bytes are signed."""

import base64
import hashlib
import hmac
from functools import cache

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key


class ApiKey(msgspec.Struct, kw_only=True):
    """One of `secret` (HMAC) and `public_key` (PEM of RSA or Ed25519) is set."""

    secret: str = ""
    public_key: str = ""
    trade: bool = True
    withdraw: bool = False
    read_only: bool = False
    ips: list[str] = []  # addresses it may be used from; none: from any
    expired: bool = False

    @property
    def algorithm(self) -> str:
        if not self.public_key:
            return "HMAC"
        return "RSA" if isinstance(_load(self.public_key), RSAPublicKey) else "ED25519"

    def check(self) -> None:
        """ValueError if it cannot sign."""
        if bool(self.secret) == bool(self.public_key):
            raise ValueError("give one of api_secret and public_key")
        if self.public_key:
            _load(self.public_key)

    def verifies(self, payload: bytes, signature: str) -> bool:
        """HMAC signs in hex, the others in base64; RSA is PKCS1 v1.5 over SHA-256."""
        if not self.public_key:
            return hmac.compare_digest(hmac_hex(self.secret, payload).encode(), signature.encode())
        key = _load(self.public_key)
        try:
            raw = base64.b64decode(signature, validate=True)
            if isinstance(key, RSAPublicKey):
                key.verify(raw, payload, padding.PKCS1v15(), hashes.SHA256())
            else:
                key.verify(raw, payload)
        except (ValueError, InvalidSignature):
            return False
        return True


def hmac_hex(secret: str, payload: bytes) -> str:
    return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()


@cache
def _load(pem: str) -> RSAPublicKey | Ed25519PublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey | Ed25519PublicKey):
        raise ValueError("public_key is an RSA or Ed25519 key in PEM form")
    return key
