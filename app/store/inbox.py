"""The inbox: alerts as they came, and the instructions (one per order and book) that they became."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from app.domain.refusals import Outcome
from app.domain.sequence import Neighbour
from app.domain.signal import Signal
from app.errors import StoreUnavailable
from app.store.books import Book, lost
from app.store.db import Connection, Pool, as_struct, as_structs


class AlertStatus(StrEnum):
    """received -> executing -> one of the others. Only needs_operator waits for a person."""

    RECEIVED = "received"
    EXECUTING = "executing"
    DONE = "done"
    REFUSED = "refused"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    NEEDS_OPERATOR = "needs_operator"


class InstructionStatus(StrEnum):
    """pending -> executing -> one of the others."""

    PENDING = "pending"
    EXECUTING = "executing"
    DONE = "done"
    REFUSED = "refused"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    NEEDS_OPERATOR = "needs_operator"


class CauseKind(StrEnum):
    """Where an instruction comes from."""

    ALERT = "alert"
    MANUAL = "manual"  # a person pressed close
    LEVEL = "level"  # the rest of a level's close that did not fill at once
    PROTECTION = "protection"  # a position that could not be protected


class NewAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert to be stored. `key` makes it unique within its strategy, for ever or (`windowed`) for 30 s."""

    id: UUID
    strategy_id: str
    key: str
    windowed: bool
    body_hash: bytes
    body: str
    content_type: str
    source: str
    format: str
    signals: tuple[Signal, ...]  # its orders in their sequence; one at least
    received_at: datetime


class NewInstruction(msgspec.Struct, frozen=True, kw_only=True):
    """One order of an alert (`leg` is its place there) for one account."""

    id: UUID
    account_id: UUID
    multiplier: Decimal
    leg: int = 0


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of storing one: its own id, or that of the alert that has the key, with that one's body hash."""

    alert_id: UUID
    duplicate: bool
    body_hash: bytes


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """What one book is asked to do. Instructions of one book are carried out in the order of `seq`."""

    id: UUID
    seq: int
    cause_kind: CauseKind
    cause_id: UUID
    account_id: UUID
    symbol: str
    strategy_id: str
    multiplier: Decimal
    request: Signal
    position_id: UUID | None
    status: InstructionStatus
    attempts: int
    outcome_code: str | None
    outcome_reason: str | None
    created_at: datetime
    received_at: datetime  # of the alert; what no alert asked for is received when it is made


New: TypeAlias = tuple[NewAlert, Sequence[NewInstruction]]
Row = Any

HASH_WINDOW_S = 30
LOCKED_MAX_MS = 1000


def key_of(alert: NewAlert) -> tuple[str, str]:
    return alert.strategy_id, alert.key


# One statement, so one round trip and one commit for all alerts that are given: claim their keys, store them, and write
# one instruction for each of their orders and each account that the strategy trades. Of an alert whose key is taken
# nothing is written. Keys are claimed in one order by everybody, so that two processes never wait for each other; and
# a row that is held for long (a strategy that is being removed) does not hold up all that came with it.
STORE = f"""
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', '{LOCKED_MAX_MS}', true) AS set
), given AS MATERIALIZED (
    SELECT *, ordinality AS place
      FROM ROWS FROM (jsonb_to_recordset($1) AS (id uuid, strategy_id text, key text, body_hash text, windowed bool,
                                                 body text, content_type text, source text, format text, signals jsonb,
                                                 received_at timestamptz)) WITH ORDINALITY
), wanted AS MATERIALIZED (
    SELECT w.*, w.ordinality AS number, place
      FROM jsonb_array_elements($2) WITH ORDINALITY AS i (instructions, place)
     CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(instructions)
                                   AS (id uuid, account_id uuid, multiplier numeric, leg int)) WITH ORDINALITY AS w
), claimed AS (
    INSERT INTO alert_keys AS k (strategy_id, key, body_hash, alert_id, windowed)
    SELECT strategy_id, key, decode(body_hash, 'base64'), id, windowed FROM patience, given ORDER BY strategy_id, key
    ON CONFLICT (strategy_id, key) DO UPDATE
       SET body_hash = excluded.body_hash, alert_id = excluded.alert_id, claimed_at = now()
     WHERE k.windowed AND k.claimed_at < now() - interval '{HASH_WINDOW_S} seconds'
    RETURNING alert_id
), stored AS (
    INSERT INTO alerts (id, strategy_id, body, content_type, source, format, signal, more_signals, sent_at, received_at,
                        marks, status, outcome_code, outcome_reason, finished_at)
    SELECT id, strategy_id, body, content_type, source, format, signals->0, signals - 0,
           (signals->0->>'sent_at')::timestamptz, received_at,
           jsonb_build_object('received', received_at),
           CASE WHEN nobody THEN 'refused' ELSE 'received' END,
           CASE WHEN nobody THEN '{Outcome.NO_ACCOUNT}' END,
           CASE WHEN nobody THEN 'the strategy trades no account: add one to it' END,
           CASE WHEN nobody THEN received_at END
      FROM claimed JOIN given ON given.id = claimed.alert_id
     CROSS JOIN LATERAL (SELECT NOT EXISTS (SELECT FROM wanted w WHERE w.place = given.place) AS nobody) AS empty
     ORDER BY place
    RETURNING id
), instructed AS (
    INSERT INTO instructions (id, cause_kind, cause_id, account_id, symbol, strategy_id, multiplier, request, leg)
    SELECT w.id, 'alert', stored.id, w.account_id, given.signals->w.leg->>'symbol', given.strategy_id, w.multiplier,
           given.signals->w.leg, w.leg
      FROM stored JOIN given USING (id) JOIN wanted w USING (place)
     ORDER BY place, w.leg, w.number
)
SELECT id FROM stored
"""

KEY_HOLDERS = """
SELECT k.strategy_id, k.key, k.alert_id, k.body_hash
  FROM unnest($1::text[], $2::text[]) AS g (strategy_id, key) JOIN alert_keys k USING (strategy_id, key)
"""


async def store_all(connection: Connection | Pool, news: Sequence[New]) -> list[Stored]:
    """Store alerts with their instructions, each of them all or none of it, unless its key is taken.

    No two may have the same key. One for which there is no account is stored as refused.

    Returns only after the commit. `duplicate` with an equal body hash is a resend; with another, a conflict.
    """
    alerts = [alert for alert, _ in news]
    rows = await connection.fetch(STORE, alerts, [instructions for _, instructions in news])
    stored = {row["id"] for row in rows}
    taken = [one for one in alerts if one.id not in stored]
    holders = {}
    if taken:
        rows = await connection.fetch(KEY_HOLDERS, [one.strategy_id for one in taken], [one.key for one in taken])
        holders = {(row["strategy_id"], row["key"]): row for row in rows}
    return [_stored(one) if one.id in stored else _taken(one, holders.get(key_of(one))) for one in alerts]


def _stored(alert: NewAlert) -> Stored:
    return Stored(alert_id=alert.id, duplicate=False, body_hash=alert.body_hash)


def _taken(alert: NewAlert, holder: Row | None) -> Stored:
    """An alert that holds its key itself was stored by an attempt whose answer was lost."""
    if holder is None:
        raise StoreUnavailable("the alert's key was taken and is free again: it was not stored")
    if holder["alert_id"] == alert.id:
        return _stored(alert)
    return Stored(alert_id=holder["alert_id"], duplicate=True, body_hash=holder["body_hash"])


# How many of a strategy's alerts came in the minute up to an instant, before an alert (or all of them); not counted
# further than asked for. By the order and time of their arrival alone, so that it is the same whenever it is asked.
ALERTS_BEFORE = """
SELECT count(*)
  FROM (SELECT received_at FROM alerts
         WHERE strategy_id = $1 AND ($2::uuid IS NULL OR seq < (SELECT seq FROM alerts WHERE id = $2))
         ORDER BY seq DESC LIMIT $4) AS latest
 WHERE received_at > $3::timestamptz - interval '1 minute'
"""


async def too_many(
    connection: Connection | Pool, strategy_id: str, most: int, *, at: datetime, before: UUID | None
) -> bool:
    """Whether `most` alerts of the strategy came already in the minute up to `at`, before the alert `before`."""
    found: int = await connection.fetchval(ALERTS_BEFORE, strategy_id, before, at, most)
    return found >= most


INSTRUCT = """
INSERT INTO instructions (id, cause_kind, cause_id, account_id, symbol, strategy_id, request, position_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (cause_kind, cause_id, account_id, symbol, leg) DO NOTHING
"""


async def instruct(
    connection: Connection | Pool,
    *,
    id: UUID,
    cause_kind: CauseKind,
    cause_id: UUID,
    account_id: UUID,
    strategy_id: str,
    request: Signal,
    position_id: UUID,
) -> None:
    """An instruction about one position that no alert asked for; the same cause instructs once."""
    await connection.execute(
        INSTRUCT, id, cause_kind, cause_id, account_id, request.symbol, strategy_id, request, position_id
    )


CLOSING_WAITS = """
SELECT EXISTS (
    SELECT FROM instructions
     WHERE account_id = $1 AND symbol = $2 AND id <> $3 AND status IN ('pending', 'executing')
       AND (cause_kind <> 'alert' OR request->>'target' = 'flat' OR request->>'action' LIKE 'close%'))
"""


async def closing_waits(connection: Connection | Pool, account_id: UUID, symbol: str, but: UUID) -> bool:
    """Whether something else than the instruction `but` is to close what the book holds."""
    found: bool = await connection.fetchval(CLOSING_WAITS, account_id, symbol, but)
    return found


# Of the same strategy's alerts for the book: what waits behind this one, and what was carried out although its sender
# made it later. Among the last few only: an alert that comes later than that is too old for other reasons.
NEIGHBOURS = """
SELECT n.cause_id AS alert_id, n.request, n.created_at AS received_at, n.status = 'pending' AS waits,
       n.status = 'done' AS done,
       coalesce(n.status = 'done' AND closes OR acted.reduces, false) AS closed,
       coalesce(n.status = 'done' AND NOT closes AND n.request->>'target' IS NOT NULL OR acted.opens, false) AS opened
  FROM (SELECT * FROM instructions WHERE account_id = $1 AND symbol = $2 ORDER BY seq DESC LIMIT 50) AS n
 CROSS JOIN LATERAL (SELECT coalesce(n.request->>'target' = 'flat' OR n.request->>'action' LIKE 'close%'
                                     OR n.request->>'action' LIKE 'reduce%', false) AS closes) AS wish
 CROSS JOIN LATERAL (SELECT bool_or(kind IN ('open', 'add')) AS opens, bool_or(kind IN ('reduce', 'close')) AS reduces
                       FROM intents WHERE cause_kind = 'instruction' AND cause_id = n.id) AS acted
 WHERE n.cause_kind = 'alert' AND n.strategy_id = $3 AND n.cause_id <> $4
   AND (n.status = 'pending' AND n.seq > $5
        OR n.status <> 'pending' AND (n.request->>'sent_at')::timestamptz > $6::timestamptz)
 ORDER BY n.seq
"""


async def neighbours(connection: Connection | Pool, instruction: Instruction) -> list[Neighbour]:
    """The other alerts of its strategy and book beside which an alert's instruction has its place."""
    rows = await connection.fetch(
        NEIGHBOURS, instruction.account_id, instruction.symbol, instruction.strategy_id,
        instruction.cause_id, instruction.seq, instruction.request.sent_at,
    )  # fmt: skip
    return as_structs(rows, Neighbour)


WAITING_BOOKS = """
SELECT account_id, symbol FROM instructions
 WHERE status IN ('pending', 'executing') AND retry_at <= clock_timestamp()
 GROUP BY account_id, symbol
 ORDER BY min(seq)
 LIMIT $1
"""

NEXT_ID = """
SELECT CASE WHEN retry_at <= clock_timestamp() THEN id END FROM instructions
 WHERE account_id = $1 AND symbol = $2 AND status IN ('pending', 'executing')
 ORDER BY seq LIMIT 1
"""


async def waiting_books(connection: Connection | Pool, *, limit: int) -> list[tuple[UUID, str]]:
    """Books with work that is due, the longest waiting first: what the sweep rings for."""
    return [(row["account_id"], row["symbol"]) for row in await connection.fetch(WAITING_BOOKS, limit)]


async def next_id(connection: Connection | Pool, account_id: UUID, symbol: str) -> UUID | None:
    """The book's oldest unfinished instruction; None when there is none or it is not due yet."""
    found: UUID | None = await connection.fetchval(NEXT_ID, account_id, symbol)
    return found


# The book's oldest unfinished instruction, if it is due, is begun: one attempt more, and its alert is executing. None
# of this has to survive a crash (it would be done again), so the commit does not wait for the disk.
def _begin(also: str = "") -> str:
    return f"""
next AS (
    SELECT id, retry_at <= clock_timestamp() AS due FROM instructions
     WHERE account_id = $1 AND symbol = $2 AND status IN ('pending', 'executing')
     ORDER BY seq LIMIT 1
), begun AS (
    UPDATE instructions i SET status = 'executing', attempts = attempts + 1
      FROM next{also}
     WHERE i.id = next.id AND next.due AND i.status IN ('pending', 'executing')
    RETURNING i.*
), alert AS (
    UPDATE alerts SET status = 'executing'
     WHERE id = (SELECT cause_id FROM begun WHERE cause_kind = 'alert') AND status = 'received'
), unhurried AS (
    SELECT set_config('synchronous_commit', 'off', true)
)
"""


TAKE = (
    """
WITH claimed AS (
    INSERT INTO books AS b (account_id, symbol, holder, token) VALUES ($1, $2, $3, 1)
    ON CONFLICT (account_id, symbol) DO UPDATE
       SET holder = excluded.holder, token = b.token + 1
     WHERE b.holder IS NULL
        OR b.holder = excluded.holder
        OR NOT EXISTS (SELECT FROM leases WHERE name = 'worker:' || b.holder AND expires_at > clock_timestamp())
    RETURNING token
), """
    + _begin(also=", claimed")
    + """
SELECT claimed.token, begun.*,
       coalesce((SELECT received_at FROM alerts WHERE id = begun.cause_id), begun.created_at) AS received_at
  FROM unhurried, claimed LEFT JOIN begun ON true
"""
)

# Only under a claim that still is the last one: another worker may have taken the book meanwhile.
BEGIN_NEXT = (
    """
WITH claimed AS (
    SELECT FROM books WHERE account_id = $1 AND symbol = $2 AND holder = $3 AND token = $4
), """
    + _begin(also=", claimed")
    + """
SELECT begun.*, coalesce((SELECT received_at FROM alerts WHERE id = begun.cause_id), begun.created_at) AS received_at
  FROM unhurried, begun
"""
)


async def take(
    connection: Connection | Pool, account_id: UUID, symbol: str, holder: UUID
) -> tuple[Book | None, Row | None]:
    """Claim a book and begin its next instruction, in one round trip; see `books` for what a claim is.

    (None, None) while another worker has it; (book, None) when nothing is due in it.
    """
    row = await connection.fetchrow(TAKE, account_id, symbol, holder)
    if row is None:
        return None, None
    book = Book(account_id=account_id, symbol=symbol, holder=holder, token=row["token"])
    return book, None if row["id"] is None else row


async def begin_next(connection: Connection | Pool, book: Book) -> Row | None:
    """Begin the next instruction of a book that is claimed already; None when nothing is due, or the claim was lost."""
    return await connection.fetchrow(BEGIN_NEXT, book.account_id, book.symbol, book.holder, book.token)


def readable(row: Row) -> Instruction:
    """A row as an instruction. Raises msgspec.ValidationError when another version wrote it."""
    return as_struct(row, Instruction)


# Whose claim was lost writes nothing more about an instruction: another worker is at it.
CLAIMED = """EXISTS (SELECT FROM books b WHERE b.account_id = instructions.account_id AND b.symbol = instructions.symbol
                  AND b.holder = $2 AND b.token = $3)"""

POSTPONE = f"""
UPDATE instructions SET retry_at = clock_timestamp() + make_interval(secs => $4), waits_for = $5
 WHERE id = $1 AND status = 'executing' AND {CLAIMED}
"""

FAIL = f"""
UPDATE instructions SET failures = failures + 1 WHERE id = $1 AND {CLAIMED} RETURNING failures
"""

FORETELL = "UPDATE instructions SET outcome_code = $2, outcome_reason = $3 WHERE id = $1 AND status = 'executing'"

FINISH = f"""
UPDATE instructions
   SET status = $4, outcome_code = $5, outcome_reason = $6, waits_for = NULL, finished_at = clock_timestamp()
 WHERE id = $1 AND status IN ('pending', 'executing') AND {CLAIMED}
RETURNING cause_kind, cause_id
"""

# An alert ends when the last of its instructions has ended. With several accounts the gravest status is the alert's,
# and the reason names how many ended how; each account's own outcome stays with its instruction.
FINISH_ALERT = """
WITH others AS (
    SELECT status, outcome_code, outcome_reason, leg FROM instructions
     WHERE cause_kind = 'alert' AND cause_id = $1
), gravest AS (
    SELECT * FROM others
     ORDER BY array_position(ARRAY['needs_operator', 'refused', 'expired', 'superseded', 'done'], status),
              (outcome_code = 'nothing_to_do')
     LIMIT 1
)
UPDATE alerts a
   SET status = g.status, outcome_code = g.outcome_code,
       outcome_reason = CASE
           WHEN (SELECT count(*) FROM others) = 1 THEN g.outcome_reason
           ELSE (SELECT count(*) FILTER (WHERE status = 'done') || ' of ' || count(*)
                        || CASE WHEN max(leg) = 0 THEN ' accounts done; ' ELSE ' orders done; ' END FROM others)
                || coalesce(g.outcome_reason, '')
       END,
       marks = a.marks || $2 || jsonb_build_object('finished', clock_timestamp()),
       finished_at = clock_timestamp()
  FROM gravest g
 WHERE a.id = $1 AND a.status IN ('received', 'executing')
   AND NOT EXISTS (SELECT FROM others WHERE status IN ('pending', 'executing'))
"""


async def postpone(
    connection: Connection | Pool, book: Book, instruction_id: UUID, *, seconds: float, why: str
) -> None:
    """Not now: the sweep rings again after `seconds`. Nothing happens when the claim on the book was lost."""
    await connection.execute(POSTPONE, instruction_id, book.holder, book.token, seconds, why)


async def fail(connection: Connection | Pool, book: Book, instruction_id: UUID) -> int:
    """Count an attempt that a bug ended; answers how many there were. Conflict when the claim was lost."""
    failures: int | None = await connection.fetchval(FAIL, instruction_id, book.holder, book.token)
    if failures is None:
        raise lost(book)
    return failures


async def foretell(connection: Connection, instruction_id: UUID, code: str, reason: str) -> None:
    """Part of the wish was refused: this will be the outcome once the rest is done."""
    await connection.execute(FORETELL, instruction_id, code, reason)


async def finish(
    connection: Connection,
    book: Book,
    instruction_id: UUID,
    status: InstructionStatus,
    code: str,
    reason: str,
    marks: dict[str, datetime] | None = None,
) -> None:
    """End an instruction, and its alert with it if it was the last. Inside a transaction; once. Conflict when the
    claim on the book was lost.
    """
    row = await connection.fetchrow(FINISH, instruction_id, book.holder, book.token, status, code, reason)
    if row is None:
        raise lost(book)
    if row["cause_kind"] == CauseKind.ALERT:
        # Two accounts may finish at once: the row lock makes the second see the first.
        await connection.execute("SELECT 1 FROM alerts WHERE id = $1 FOR UPDATE", row["cause_id"])
        await connection.execute(FINISH_ALERT, row["cause_id"], marks or {})
