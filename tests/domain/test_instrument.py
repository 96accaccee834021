"""How an order that is too large for one is shared out."""

from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st

from tests.support.instruments import instrument


@given(step=st.sampled_from([D("0.001"), D("0.5"), D(1), D(10)]), most=st.integers(1, 500), steps=st.integers(1, 5_000))
def test_the_shares_add_up_and_none_is_too_large_or_a_crumb(step: D, most: int, steps: int) -> None:
    rules, rest, shares = instrument(qty_step=step, qty_min=step, market_qty_max=step * most), step * steps, []
    while rest:
        shares.append(rules.order_qty(rest))
        rest -= shares[-1]
        assert rest >= 0
    assert sum(shares) == step * steps
    assert max(shares) <= rules.market_qty_max
    assert all(share % step == 0 for share in shares)
    assert len(shares) == -(-steps // most), "no more orders than are needed"
    assert max(shares) - min(shares) <= step, "even shares: none is below the exchange's minimum for its being last"
