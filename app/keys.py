"""Every key, derived from the one master key, and what is done with each. Also passwords, which need none.

HKDF-SHA256 gives each purpose a key of its own, so that nothing made for one can be used for another. The derived keys
live in memory only; whoever reads the database alone can neither read credentials nor guess at secrets.
"""

import asyncio
import base64
import hmac
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Final, Self

import argon2
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import LevelheadError

MASTER_BYTES: Final = 32
NONCE_BYTES: Final = 12
SECRET_BYTES: Final = 32
BLOCK_BYTES: Final = 64  # of SHA-256
PASSWORD_CHARS_MAX: Final = 1024
"""A longer password is refused before it is hashed: hashing costs time for each byte."""


class SealBroken(LevelheadError):
    """What was sealed can't be opened: it was changed, belongs to another row, or the master key is another one."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange's API key. `api_secret` for HMAC, `private_key` (PEM) for RSA and Ed25519; one of the two."""

    api_key: str
    api_secret: str | None = None
    private_key: str | None = None

    def __repr__(self) -> str:
        return "Credentials(…)"


class Lasting(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that outlive a change of the master key, see `store.installation`: what they make is compared with what was
    made before the change, and neither opens anything nor lets anybody in.
    """

    install: bytes
    """Names this installation in client order ids."""
    body: bytes
    """Under which bodies of alerts are hashed."""

    def __repr__(self) -> str:
        return "Lasting(…)"


class Keys:
    """The derived keys of one installation.

    With `previous`, the keys of the master key before this one: what they sealed is opened, what they signed or hashed
    is recognised, and nothing new is made with them.
    """

    @classmethod
    def from_text(cls, master_key: str, previous: str = "") -> Self:
        """From the settings: base64url, with or without padding. `previous` is empty outside of a rotation."""
        return cls(_decode(master_key), None if not previous else cls(_decode(previous)))

    def __init__(self, master: bytes, previous: Self | None = None) -> None:
        if len(master) != MASTER_BYTES:
            raise ValueError(f"a master key has {MASTER_BYTES} bytes, not {len(master)}")
        self._credentials = AESGCM(_derive(master, "credentials"))
        self._webhook_secret = hmac_sha256(_derive(master, "webhook-secret"))
        self._refresh_token = hmac_sha256(_derive(master, "refresh-token"))
        self.access_token: Final = _derive(master, "access-token")
        """Signs access tokens (HS256)."""
        self.lasting = Lasting(install=_derive(master, "install"), body=_derive(master, "body"))
        self.previous: Final = previous

    def __repr__(self) -> str:
        return "Keys(…)"

    @property
    def lasting(self) -> Lasting:
        """Those of the first master key: kept in the database, and put here by who opens that."""
        return self._lasting

    @lasting.setter
    def lasting(self, lasting: Lasting) -> None:
        self._lasting = lasting
        self._body = hmac_sha256(lasting.body)

    @property
    def install(self) -> bytes:
        """Names this installation in client order ids."""
        return self.lasting.install

    @property
    def valid(self) -> "tuple[Keys, ...]":
        """Whose signatures and hashes are recognised: these, and during a rotation those before them."""
        return (self,) if self.previous is None else (self, self.previous)

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt as nonce ‖ ciphertext, bound to `context`: the row's id, so that no row opens in place of another."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._credentials.encrypt(nonce, plaintext, context)

    def open_sealed(self, sealed: bytes, context: bytes) -> bytes:
        """The plaintext of `seal`, also of that before a rotation. Raises SealBroken."""
        for keys in self.valid:
            with suppress(InvalidTag, ValueError):
                return keys._credentials.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        raise SealBroken("it can't be decrypted: changed, of another row, or of another master key")

    def secret_hash(self, secret: str) -> bytes:
        """What is stored of a webhook's secret."""
        return self._webhook_secret(secret.encode("utf-8", "surrogatepass"))

    def refresh_token_hash(self, token: str) -> bytes:
        """What is stored of a refresh token."""
        return self._refresh_token(token.encode("utf-8", "surrogatepass"))

    def body_hash(self, raw: bytes) -> bytes:
        """Tells whether two deliveries have the same body, without keeping the body or the secret in it."""
        return self._body(raw)


def same(one: bytes, other: bytes) -> bool:
    """Whether two hashes are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def new_secret() -> str:
    """256 random bits in base64url: a webhook's secret, a refresh token, a made-up password."""
    return secrets.token_urlsafe(SECRET_BYTES)


def _decode(master_key: str) -> bytes:
    unpadded = master_key.rstrip("=")
    return base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4))


def _derive(master: bytes, purpose: str) -> bytes:
    info = f"levelhead/v1/{purpose}".encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)


def hmac_sha256(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA256 (RFC 2104), with what is the same for all messages done once: a third of the time of `hmac.digest`,
    which looks for the hash anew each time as well.
    """
    block = (key if len(key) <= BLOCK_BYTES else sha256(key).digest()).ljust(BLOCK_BYTES, b"\0")
    inner, outer = sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(message: bytes) -> bytes:
        within, around = inner.copy(), outer.copy()
        within.update(message)
        around.update(within.digest())
        return around.digest()

    return digest


# Argon2id with the library's parameters (RFC 9106, low memory): about 50 ms and 64 MiB a hash. Two threads bound the
# memory that a flood of logins can claim; while they work, the event loop goes on.
_hasher = argon2.PasswordHasher()
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")


async def hash_password(password: str) -> str:
    """The PHC string to store."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(_hasher.hash, password))


async def verify_password(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind `stored`. With None (no such user) it takes as long, and answers False."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(_verify, stored, password))


def _nobody() -> str:
    """A hash that no password gives, with the hasher's own parameters: what an unknown e-mail is compared with."""
    salt, digest = (base64.b64encode(os.urandom(n)).decode().rstrip("=") for n in (_hasher.salt_len, _hasher.hash_len))
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v={argon2.low_level.ARGON2_VERSION}${costs}${salt}${digest}"


def _verify(stored: str | None, password: str) -> bool:
    if len(password) > PASSWORD_CHARS_MAX:
        return False
    try:
        _hasher.verify(_nobody() if stored is None else stored, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return stored is not None
