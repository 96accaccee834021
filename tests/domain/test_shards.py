"""Which symbol is whose: the same for every process and version, and fair."""

from collections import Counter
from uuid import UUID

import pytest

from app.domain.shards import LEASES, SHARDS, fair_share, lease_of


@pytest.mark.parametrize(
    ("symbol", "lease"), [("BTCUSDT", "watcher:02"), ("ETHUSDT", "watcher:10"), ("1000PEPEUSDT", "watcher:12")]
)
def test_a_symbol_never_changes_its_shard(symbol: str, lease: str) -> None:
    """Two watchers of two versions would both have it, or none."""
    assert lease_of(symbol) == lease


def test_symbols_are_spread_over_the_shards() -> None:
    counts = Counter(lease_of(f"{letter}{number}USDT") for letter in "ABCDEFGHIJ" for number in range(100))
    assert counts.keys() == set(LEASES)
    assert max(counts.values()) < 2 * min(counts.values())


@pytest.mark.parametrize("count", range(1, SHARDS + 3))
def test_fair_shares_come_to_all_shards_and_differ_by_one_at_most(count: int) -> None:
    watchers = {UUID(int=number * 7919 % 104729) for number in range(1, count + 1)}
    shares = [fair_share(watcher, watchers) for watcher in watchers]
    assert len(shares) == count
    assert sum(shares) == SHARDS
    assert max(shares) - min(shares) <= 1
