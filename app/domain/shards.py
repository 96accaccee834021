"""How watchers share the symbols: each symbol belongs to one of a fixed number of shards, each shard to one lease."""

from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from uuid import UUID

SHARDS: Final = 16  # more than there will be watchers; all of them are renewed together
LEASES: Final = tuple(f"watcher:{number:02}" for number in range(SHARDS))


@lru_cache(maxsize=4096)
def lease_of(symbol: str) -> str:
    """The lease of the symbol's shard, whatever the market: whoever holds it watches the symbol."""
    digest = blake2b(symbol.encode(), digest_size=8).digest()  # a checksum would put names that are alike together
    return LEASES[int.from_bytes(digest, "big") % SHARDS]


def fair_share(watcher: UUID, watchers: Collection[UUID]) -> int:
    """How many shards this one of the watchers should hold. Those of all come to all shards."""
    each, rest = divmod(SHARDS, len(watchers))
    return each + (sorted(watchers).index(watcher) < rest)
