"""Take an alert in: verify -> read -> store once -> commit -> ring. What was answered 2xx is in the inbox for good."""

import logging
from uuid import UUID

import msgspec

from app import crash
from app.alerts.body import text_without_secrets
from app.alerts.defaults import read_defaults
from app.alerts.recognise import Reading, in_time, open_alert, read_body
from app.domain.refusals import Outcome
from app.errors import InvalidInput, LevelheadError
from app.flows import rejected
from app.flows.door import Delivery, Sender, addressed, admit
from app.flows.everywhere import spread
from app.ids import new_id
from app.keys import same
from app.log import event
from app.resources import Resources
from app.store.db import store_errors
from app.store.inbox import NewAlert, NewInstruction

log = logging.getLogger("receive")


class KeyConflict(LevelheadError):
    """The alert's id was used before with another body; nothing was stored."""

    def __init__(self, alert_id: UUID) -> None:
        super().__init__(
            f"an alert with this id but another body was received before (alert {alert_id}); "
            "give each alert an id of its own, for example {{strategy.order.id}} {{timenow}} {{strategy.position_size}}"
        )
        self.alert_id = alert_id


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
    try:
        body = open_alert(delivery.raw, delivery.path_secret)
    except InvalidInput as error:
        await rejected.keep_unopened(resources, delivery, error, received_at)
        raise
    sender = await addressed(resources, delivery, body.secret)
    strategy = sender.strategy
    try:
        admit(resources, sender, delivery)
        defaults = read_defaults(strategy.defaults, "defaults.")
        reading = read_body(body, strategy.format, path_secret=delivery.path_secret, defaults=defaults)
        reading = await spread(resources, strategy.id, in_time(reading, received_at))
    except InvalidInput as error:
        shown = text_without_secrets(body, delivery.path_secret)
        await rejected.keep(resources, delivery, strategy.id, shown, error, received_at)
        raise
    body_hash = resources.keys.body_hash(delivery.raw)
    alert = NewAlert(
        id=new_id(),
        strategy_id=strategy.id,
        key=_key(reading, sender, body_hash),
        windowed=reading.key is None and sender.webhook_id is None,
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
        stored = await resources.inbox((alert, instructions))
    crash.point("receive.after_commit", symbol)
    if stored.duplicate:
        if not same(stored.body_hash, body_hash):
            event(log, logging.WARNING, "same id, other body", strategy=strategy.id, alert=stored.alert_id)
            conflict = KeyConflict(stored.alert_id)
            said = InvalidInput("key_conflict", str(conflict))
            await rejected.keep(resources, delivery, strategy.id, reading.body, said, received_at)
            raise conflict
        event(log, logging.INFO, "alert is a duplicate", strategy=strategy.id, alert=stored.alert_id)
        return Receipt(alert_id=stored.alert_id, duplicate=True, repairs=reading.repairs)
    _ring(resources, alert, [share.account_id for share in strategy.accounts])
    for signal in alert.signals:
        event(log, logging.INFO, "alert accepted", strategy=strategy.id, symbol=signal.symbol,
              wish=signal.action or signal.target, alert=alert.id)  # fmt: skip
    if not instructions:
        event(log, logging.WARNING, "alert refused", strategy=strategy.id, code=Outcome.NO_ACCOUNT, alert=alert.id)
    return Receipt(alert_id=alert.id, duplicate=False, repairs=reading.repairs)


def _key(reading: Reading, sender: Sender, body_hash: bytes) -> str:
    """By what a resend is known: the alert's own id, else that of a signed delivery, else the body."""
    if reading.key is not None:
        return f"id:{reading.key}"
    return f"hash:{body_hash.hex()}" if sender.webhook_id is None else f"webhook:{sender.webhook_id}"


def _ring(resources: Resources, alert: NewAlert, account_ids: list[UUID]) -> None:
    """Ring once for each book: the alert's own ring is for the symbol of its first order."""
    if not account_ids:
        return
    first, *others = dict.fromkeys(signal.symbol for signal in alert.signals)
    resources.bell.alert(alert.id, first, account_ids)
    for symbol in others:
        for account_id in account_ids:
            resources.bell.book(account_id, symbol, str(alert.id))
