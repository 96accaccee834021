"""Signatures of Binance: https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info."""

from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from app.domain.refusals import Outcome
from app.errors import Refused
from app.keys import Credentials
from app.venues.signatures import Sign, private_key, with_ed25519, with_rsa, with_secret


class Signer:
    """Signs what is sent. Raises Refused when the key is none of those that Binance takes."""

    def __init__(self, credentials: Credentials) -> None:
        self.logs_on = False  # whether a session may be opened by it, in which nothing more is signed
        self.sign: Sign
        if credentials.api_secret is not None:
            self.sign = with_secret(credentials.api_secret)
            return
        match private_key(credentials.private_key):
            case rsa.RSAPrivateKey() as key:
                self.sign = with_rsa(key)
            case ed25519.Ed25519PrivateKey() as key:
                self.sign = with_ed25519(key)
                self.logs_on = True
            case _:
                raise Refused(
                    Outcome.VENUE_REFUSED,
                    "Binance takes a secret, or an RSA or Ed25519 private key in PEM without a password",
                )

    def for_query(self, text: bytes) -> str:
        """The signature as a query has it."""
        return quote(self.sign(text), safe="")
