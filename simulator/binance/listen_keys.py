"""Listen keys of the user data stream: one per account, lives an hour, ends for all who use it.

https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams
"""

import secrets
import string
from collections.abc import Callable
from typing import Protocol

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 64


class _Life(Protocol):
    listen_key_s: int


class ListenKeys:
    def __init__(self, options: _Life, now_s: Callable[[], float]) -> None:
        self._options = options
        self._now_s = now_s
        self._keys: dict[str, tuple[str, float]] = {}  # account -> key, monotonic end

    def of(self, account: str) -> str | None:
        """The live key of an account."""
        key, until_s = self._keys.get(account, ("", 0.0))
        return key if key and until_s > self._now_s() else None

    def owner(self, key: str) -> str | None:
        return next((account for account in self._keys if self.of(account) == key), None)

    def open(self, account: str) -> str:
        """A new key, or the live one with a new hour."""
        key = self.of(account) or "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
        self._keys[account] = key, self._now_s() + self._options.listen_key_s
        return key

    def end(self, account: str) -> str | None:
        """Forget the key of an account; the key, if there was one."""
        key, _ = self._keys.pop(account, ("", 0.0))
        return key or None

    def expired(self) -> list[str]:
        """Accounts whose key ran out and was not taken away yet."""
        return [account for account in self._keys if self.of(account) is None]
