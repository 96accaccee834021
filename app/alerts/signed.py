"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`, by the bytes as they came.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable
from datetime import datetime

import msgspec

TOLERANCE_S = 5 * 60
"""How far a signature's time may be away from ours, so that a delivery that was overheard is soon worth nothing."""
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64
SIGNATURES_MAX = 16  # while its key is changed a sender signs twice
PREFIX = "whsec_"
# Without a full stop: it parts the id from what follows.
_ID = re.compile(r"[!-\-/-~]{1,200}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery says of its signature. `signatures` is empty where any part of it cannot be read."""

    id: str
    timestamp: str
    signatures: tuple[bytes, ...]

    def age_s(self, now: datetime) -> float:
        return now.timestamp() - int(self.timestamp)


def read_signed(id: str, timestamp: str, signature: str) -> Signed:
    """Of the three headers. Signatures of other kinds than `v1` are passed over."""
    if not (_ID.fullmatch(id) and _TIMESTAMP.fullmatch(timestamp)):
        return Signed(id=id, timestamp=timestamp, signatures=())
    found = []
    for word in signature.split()[:SIGNATURES_MAX]:
        version, _, text = word.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue
    return Signed(id=id, timestamp=timestamp, signatures=tuple(found))


def is_signed(signed: Signed, raw: bytes, keys: Iterable[bytes]) -> bool:
    """Whether one of the signatures is made with one of the keys; compared in constant time, each with each."""
    content = f"{signed.id}.{signed.timestamp}.".encode() + raw
    made = [hmac.digest(key, content, "sha256") for key in keys]
    return any([hmac.compare_digest(one, other) for one in made for other in signed.signatures])


def write_key(key: bytes) -> str:
    return PREFIX + base64.b64encode(key).decode()


def read_key(text: str) -> bytes | None:
    """The key in what `write_key` wrote, here or at a sender; None if it is none, or is too short to be one."""
    encoded = text.strip().removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX else None
