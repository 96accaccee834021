"""Before an opening: would its stop be seen, is the account fit to open, and is what the exchange holds ours?

Closes never come here.
"""

import asyncio
import time
from datetime import datetime
from uuid import UUID

import msgspec

from app.domain.money import plain
from app.domain.order import PositionMode, PositionSide
from app.domain.refusals import Outcome, Refusal
from app.errors import OutcomeUnknown, Refused, Transient
from app.flows import reconcile
from app.resources import Connected, Resources
from app.store import blind, drifts, inbox, positions
from app.store.db import store_errors
from app.store.strategies import Strategy, WebhookStrategy
from app.venues.base import Holding, Permissions, Standing

HEARD_S = 7.0  # after a position's end its watcher has read the tables anew
LOOK_HOLDS_S = 1.0  # a process that is slow, or held up, does not open on the ground of what was there before
LET_GO_PATIENCE_S, LET_GO_PAUSE_S = 1.0, 0.03  # of one visit
NOT_LET_GO = "a close of the position before may still arrive"

# What passes by itself, such as a watcher that is being restarted, is worth a moment's wait.
PASSES = frozenset({Outcome.BLIND, Outcome.NOT_COMPARED})


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """How a symbol stands at the exchange, and why nothing may be opened there, if so."""

    standing: Standing
    refusal: Refusal | None
    told_at: float  # monotonic

    @property
    def is_old(self) -> bool:
        """Whether others may have traded meanwhile, and the strategy been disabled: then it is looked at again."""
        return time.monotonic() > self.told_at + LOOK_HOLDS_S


async def unfit(resources: Resources, connected: Connected, symbol: str) -> Refusal | None:
    """What we know ourselves against opening anything of a symbol now. Asks the exchange only if that was never done
    since this process began.
    """
    account = connected.account
    try:
        if not await reconcile.first_look(resources, connected):
            raise Transient("not everything could be looked at")
    except (Refused, Transient, OutcomeUnknown, msgspec.ValidationError) as error:
        return Refusal(
            code=Outcome.NOT_COMPARED,
            reason=f"what account {account.name} holds could not be compared with the exchange since the start, and "
            f"until then nothing is opened on it: {error}",
        )
    return await in_the_way(resources, connected, symbol)


async def in_the_way(resources: Resources, connected: Connected, symbol: str) -> Refusal | None:
    """What the tables tell against opening anything of a symbol now."""
    with store_errors():
        dark = await blind.reason(resources.pool, connected.market, symbol)
        drift = await drifts.size_differs(resources.pool, connected.account.id, symbol)
    if dark is not None:
        return Refusal(code=Outcome.BLIND, reason=f"nothing of {symbol} is opened blind: {dark}")
    if drift is not None:
        return Refusal(
            code=Outcome.DRIFT,
            reason=f"{symbol} is not as it should be ({drift}): adopt the difference or take it back at the exchange",
        )
    return None


async def crowded(
    resources: Resources, strategy: Strategy | WebhookStrategy, *, at: datetime, before: UUID | None
) -> Refusal | None:
    """Why nothing is opened for an alert of `at` although nothing is wrong with it: too many came in the minute before.

    Those that were refused count too: a chart that runs wild opens nothing until it has calmed down.
    """
    most = strategy.limits.alerts_per_minute
    if most is None:
        return None
    with store_errors():
        if not await inbox.too_many(resources.pool, strategy.id, most, at=at, before=before):
            return None
    return Refusal(
        code=Outcome.TOO_MANY_ALERTS,
        reason=f"{most} alerts of strategy {strategy.id} came in the minute before this one, and its limit "
        "alerts_per_minute lets no more of them open anything; closes are carried out",
    )


def lets_go_s(resources: Resources) -> float:
    """After so long what a watcher had sent before it heard of a position's end is out of its receive window."""
    return HEARD_S + resources.settings.recv_window_ms / 1000


async def let_go(resources: Resources, account_id: UUID, symbol: str, side: PositionSide) -> bool:
    """Wait for a moment until no close of an ended position can arrive any more that would take off what is opened now:
    it is bound to its side, not to its position. Mostly the watcher has let go by the time that anybody asks.
    """
    until = time.monotonic() + LET_GO_PATIENCE_S
    while True:
        with store_errors():
            waits = await positions.not_let_go(resources.pool, account_id, symbol, within_s=lets_go_s(resources))
        if side not in waits:
            return True
        if time.monotonic() > until:
            return False
        await asyncio.sleep(LET_GO_PAUSE_S)


async def look(resources: Resources, connected: Connected, symbol: str) -> Readiness:
    """Ask how things stand. Raises what the venue's reads raise: then nothing is opened either."""
    standing, permissions = await asyncio.gather(connected.venue.standing(symbol), connected.permissions())
    refusal = clock(resources, connected) or _key(connected, permissions) or modes(connected, standing)
    return Readiness(standing=standing, refusal=refusal, told_at=time.monotonic())


def clock(resources: Resources, connected: Connected) -> Refusal | None:
    """A clock far off makes ages of alerts, candles and leases wrong, although requests are stamped with it mended."""
    offset_ms, bound_ms = connected.venue.clock_offset_ms, resources.settings.clock_drift_max_ms
    if abs(offset_ms) <= bound_ms:
        return None
    return Refusal(
        code=Outcome.CLOCK_DRIFT,
        reason=f"this machine's clock is {abs(offset_ms) / 1000:.1f} s {'behind' if offset_ms > 0 else 'ahead of'} the "
        f"exchange's; nothing is opened beyond {bound_ms / 1000:g} s: switch on time synchronisation here",
    )


def modes(connected: Connected, standing: Standing) -> Refusal | None:
    """The account must be set up at the exchange as its owner said here."""
    wanted, found = connected.account.position_mode, standing.position_mode
    if found is not wanted:
        return Refusal(
            code=Outcome.POSITION_MODE_MISMATCH,
            reason=f"{standing.symbol} is in {found.words} mode at the exchange and the account "
            f"{connected.account.name} is set to {wanted.words}: switch the exchange to {wanted.words} "
            f"mode, or set the account's position_mode to {found}",
        )
    return None


def _key(connected: Connected, permissions: Permissions | None) -> Refusal | None:
    if permissions is None or not permissions.can_withdraw:
        return None
    return Refusal(
        code=Outcome.KEY_CAN_WITHDRAW,
        reason=f"the API key of account {connected.account.name} may withdraw money; nothing is opened with such a "
        "key: switch that permission off at the exchange, or make a key without it",
    )


def foreign(standing: Standing, side: PositionSide) -> Refusal | None:
    """What a hand or another program holds is not ours to add to, to reverse or to net against."""
    in_the_way: list[Holding] = [
        held for held in standing.holdings if held.side is side or standing.position_mode is PositionMode.ONE_WAY
    ]
    if not in_the_way:
        return None
    holding = in_the_way[0]
    return Refusal(
        code=Outcome.FOREIGN_POSITION,
        reason=f"the exchange holds {holding.side} {plain(holding.qty)} {holding.symbol} that Levelhead did not open; "
        "close it there, or trade this symbol on another account",
    )
