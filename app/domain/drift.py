"""Differences between what we hold and what the exchange holds: their names, and what is done about each.

The exchange is the truth about what is held. What its fills explain is no drift: it is settled. What is left is in this
table: it heals without anybody, or a person is asked, since only a person knows what was meant.
"""

from enum import StrEnum

import msgspec


class DriftKind(StrEnum):
    CLOSED_OUTSIDE = "closed_outside"
    SIZE_DIFFERS = "size_differs"
    FOREIGN_POSITION = "foreign_position"
    MISSING_STOP = "missing_stop"
    ORPHAN_STOP = "orphan_stop"


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """`after_s` is how long a difference has to last before it counts: executions are listed later than positions."""

    heals: bool  # else it needs an operator
    after_s: float
    means: str
    done: str  # about it, by us or by the operator


DRIFTS: dict[DriftKind, Handling] = {
    DriftKind.CLOSED_OUTSIDE: Handling(
        heals=True,
        after_s=10.0,
        means="the exchange holds nothing of a position, and lists no fill that closed it",
        done="our position is closed with reason external; what rested for it is removed",
    ),
    DriftKind.SIZE_DIFFERS: Handling(
        heals=False,
        after_s=10.0,
        means="the exchange holds more or less than our fills come to: somebody added or took off by hand",
        done="our own quantity goes on being watched and closed; nothing is added. Adopt what the exchange holds "
        "(POST /api/v1/positions/adopt), or take the difference back there",
    ),
    DriftKind.FOREIGN_POSITION: Handling(
        heals=False,
        after_s=10.0,
        means="the exchange holds a position that is not ours",
        done="it is never traded and nothing is opened against it. Adopt it (POST /api/v1/positions/adopt), or close "
        "it at the exchange",
    ),
    DriftKind.MISSING_STOP: Handling(
        heals=True,
        after_s=1.0,
        means="the native stop of a position is not there: it was cancelled by hand, or never placed",
        done="it is placed anew; a position for which none can be placed is closed",
    ),
    DriftKind.ORPHAN_STOP: Handling(
        heals=True,
        after_s=0.0,
        means="a native stop rests for a position that has ended, and would touch a later one",
        done="it is removed",
    ),
}
