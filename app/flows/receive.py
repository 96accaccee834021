"""Take an alert in: verify -> read -> store once -> commit -> ring. What was answered 2xx is in the inbox for good."""

import logging
from uuid import UUID

import msgspec

from app import crash
from app.alerts.body import Body
from app.alerts.defaults import read_defaults
from app.alerts.recognise import in_time, open_alert, read_body
from app.domain.refusals import Outcome
from app.errors import LevelheadError
from app.ids import new_id
from app.keys import same
from app.log import event
from app.resources import Resources
from app.store import inbox, strategies
from app.store.db import store_errors
from app.store.inbox import NewAlert, NewInstruction
from app.store.strategies import WebhookStrategy

log = logging.getLogger("receive")


class Unauthorized(LevelheadError):
    """The secret is wrong, or there is no such strategy: the sender is told the same."""


class KeyConflict(LevelheadError):
    """The alert's id was used before with another body; nothing was stored."""

    def __init__(self, alert_id: UUID) -> None:
        super().__init__(
            f"an alert with this id but another body was received before (alert {alert_id}); "
            "give each alert an id of its own, for example {{strategy.order.id}} {{timenow}}"
        )
        self.alert_id = alert_id


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A POST as it came."""

    strategy_id: str
    path_secret: str | None
    raw: bytes
    content_type: str
    source: str  # peer address

    def __repr__(self) -> str:
        return f"Delivery({self.strategy_id!r}, {len(self.raw)} bytes)"


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """`duplicate`: the alert was here already, under this id. `repairs`: what was mended or left out of its body."""

    alert_id: UUID
    duplicate: bool
    repairs: tuple[str, ...] = ()


async def receive(resources: Resources, delivery: Delivery) -> Receipt:
    """Store an alert once and ring for it.

    Raises InvalidInput (the sender's mistake, with its cure), Unauthorized, KeyConflict, StoreUnavailable.
    """
    received_at = resources.now()
    body = open_alert(delivery.raw, delivery.path_secret)
    strategy = await addressed(resources, delivery, body)
    defaults = read_defaults(strategy.defaults, "defaults.")
    reading = read_body(body, strategy.format, path_secret=delivery.path_secret, defaults=defaults)
    reading = in_time(reading, received_at)
    body_hash = resources.keys.body_hash(delivery.raw)
    alert = NewAlert(
        id=new_id(),
        strategy_id=strategy.id,
        key=f"hash:{body_hash.hex()}" if reading.key is None else f"id:{reading.key}",
        windowed=reading.key is None,
        body_hash=body_hash,
        body=reading.body,
        content_type=delivery.content_type,
        source=delivery.source,
        format=reading.format,
        signals=reading.signals,
        received_at=received_at,
    )
    instructions = [
        NewInstruction(id=new_id(), account_id=share.account_id, multiplier=share.multiplier, leg=leg)
        for leg in range(len(alert.signals))
        for share in strategy.accounts
    ]
    symbol = alert.signals[0].symbol
    crash.point("receive.before_commit", symbol)
    with store_errors():
        stored = await inbox.store(resources.pool, alert, instructions)
    crash.point("receive.after_commit", symbol)
    if stored.duplicate:
        if not same(stored.body_hash, body_hash):
            event(log, logging.WARNING, "same id, other body", strategy=strategy.id, alert=stored.alert_id)
            raise KeyConflict(stored.alert_id)
        event(log, logging.INFO, "alert is a duplicate", strategy=strategy.id, alert=stored.alert_id)
        return Receipt(alert_id=stored.alert_id, duplicate=True, repairs=reading.repairs)
    await _ring(resources, alert, [share.account_id for share in strategy.accounts])
    for signal in alert.signals:
        event(log, logging.INFO, "alert accepted", strategy=strategy.id, symbol=signal.symbol,
              wish=signal.action or signal.target, alert=alert.id)  # fmt: skip
    if not instructions:
        event(log, logging.WARNING, "alert refused", strategy=strategy.id, code=Outcome.NO_ACCOUNT, alert=alert.id)
    return Receipt(alert_id=alert.id, duplicate=False, repairs=reading.repairs)


async def _ring(resources: Resources, alert: NewAlert, account_ids: list[UUID]) -> None:
    """Ring once for each book: the alert's own ring is for the symbol of its first order."""
    if not account_ids:
        return
    first, *others = dict.fromkeys(signal.symbol for signal in alert.signals)
    await resources.bell.alert(alert.id, first, account_ids)
    for symbol in others:
        for account_id in account_ids:
            await resources.bell.book(account_id, symbol, str(alert.id))


async def addressed(resources: Resources, delivery: Delivery, body: Body) -> WebhookStrategy:
    """The strategy that a delivery is for. Raises Unauthorized."""
    with store_errors():
        strategy = await strategies.for_webhook(resources.pool, delivery.strategy_id)
    await _authenticate(resources, strategy, body.secret if delivery.path_secret is None else delivery.path_secret)
    assert strategy is not None
    return strategy


async def _authenticate(resources: Resources, strategy: WebhookStrategy | None, secret: str | None) -> None:
    """Compare with every live secret in constant time; an unknown strategy costs the same as a wrong secret.

    A secret that was hashed before a rotation of the master key is hashed anew, so that it outlives the overlap.
    """
    given = [keys.secret_hash(secret or "") for keys in resources.keys.valid]
    known = strategy.secret_hashes if strategy is not None else (bytes(len(given[0])),)
    matches = [one for one in given if any([same(one, other) for other in known])]
    if strategy is None or secret is None or not matches:
        raise Unauthorized("the secret is wrong, or there is no such strategy")
    if given[0] not in matches:
        with store_errors():
            await strategies.rehash_secret(resources.pool, strategy.id, matches[0], given[0])
