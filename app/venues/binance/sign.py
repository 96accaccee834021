"""Signatures of Binance: https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info."""

import base64
from collections.abc import Callable
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from app.domain.refusals import Outcome
from app.errors import Refused
from app.keys import Credentials, hmac_sha256


class Signer:
    """Signs what is sent: HMAC in hex, RSA (PKCS #1 v1.5) and Ed25519 in base64.

    The key is read once, here. Raises Refused when it is none of these.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.logs_on = False  # whether a session may be opened by it, in which nothing more is signed
        if credentials.api_secret is not None:
            digest = hmac_sha256(credentials.api_secret.encode())
            self.sign: Callable[[bytes], str] = lambda text: digest(text).hex()
            return
        try:
            key = serialization.load_pem_private_key((credentials.private_key or "").encode(), password=None)
        except (ValueError, TypeError):
            key = None
        match key:
            case rsa.RSAPrivateKey():
                rsa_key = key
                self.sign = lambda text: _base64(rsa_key.sign(text, padding.PKCS1v15(), hashes.SHA256()))
            case ed25519.Ed25519PrivateKey():
                edwards_key = key
                self.sign = lambda text: _base64(edwards_key.sign(text))
                self.logs_on = True
            case _:
                raise Refused(
                    Outcome.VENUE_REFUSED,
                    "Binance takes a secret, or an RSA or Ed25519 private key in PEM without a password",
                )

    def for_query(self, text: bytes) -> str:
        """The signature as a query has it."""
        return quote(self.sign(text), safe="")


def _base64(signature: bytes) -> str:
    return base64.b64encode(signature).decode()
