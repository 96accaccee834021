"""A process that follows one that died here does not wait for its leases to run out.

A lease tells after seconds that its holder is gone, wherever it was. On the same machine the kernel knows at once. So a
process's id says which process it is, and one that starts frees what its dead predecessors held. Whoever still has
something on its way when it dies, a statement or a request, is no other case than a lease that ran out: writes carry
their token, and what was sent is asked for.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Final
from uuid import UUID

from app.ids import new_id
from app.log import event
from app.store import leases
from app.store.db import Pool, store_errors

log = logging.getLogger("succession")

# A UUID of version 8 (RFC 9562): machine, start, pid, chance. What is not known is 0.
MACHINE_BITS: Final = 44  # of a hash over the boot and the namespace in which pids count
BORN_BITS: Final = 40  # clock ticks from the boot to the start
PID_BITS: Final = 22
CHANCE_BITS: Final = 16  # for several in one process
VERSION: Final = 8
GONE: Final = "ZX"  # states of a process that runs no more


def own_id() -> UUID:
    """An id for this process; a random one where the system cannot tell when it started."""
    machine, born = _machine(), _born(os.getpid())
    if machine is None or born is None:
        return new_id()
    value = machine
    for bits, part in ((BORN_BITS, born), (PID_BITS, os.getpid()), (CHANCE_BITS, int.from_bytes(os.urandom(2), "big"))):
        value = (value << bits) | (part & ((1 << bits) - 1))
    # 48 bits, version, 12 bits, variant, 62 bits
    high, middle, low = value >> 74, (value >> 62) & 0xFFF, value & ((1 << 62) - 1)
    return UUID(int=(high << 80) | (VERSION << 76) | (middle << 64) | (0b10 << 62) | low)


def has_died(holder: UUID) -> bool:
    """Whether this was a process of this machine that runs no more. False of all that is not known for sure."""
    if holder.version != VERSION:
        return False
    value = holder.int
    plain = ((value >> 80) << 74) | (((value >> 64) & 0xFFF) << 62) | (value & ((1 << 62) - 1))
    plain >>= CHANCE_BITS
    pid = plain & ((1 << PID_BITS) - 1)
    born = (plain >> PID_BITS) & ((1 << BORN_BITS) - 1)
    machine = plain >> (PID_BITS + BORN_BITS)
    return machine == _machine() and _born(pid) != born


async def free_leases_of_the_dead(pool: Pool) -> None:
    """Raises StoreUnavailable."""
    with store_errors():
        dead = [holder for holder in await leases.holders(pool) if has_died(holder)]
        if dead:
            await leases.free(pool, dead)
            event(log, logging.INFO, "leases of dead processes are free", processes=len(dead))


def _machine() -> int | None:
    """Where pids mean the same: this boot, this namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    digest = hashlib.blake2b(f"{boot}{namespace}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - MACHINE_BITS)


def _born(pid: int) -> int | None:
    """When it started; None if there is no such process, or none that runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; the fields after it are fixed: state is the 3rd, start the 22nd.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in GONE else int(fields[19])
