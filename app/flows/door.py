"""Who stands at the door: which strategy a delivery is for, and whether its sender proves to be that strategy's."""

from datetime import datetime

import msgspec

from app import addresses
from app.alerts.signed import TOLERANCE_S, Signed, is_signed
from app.errors import InvalidInput, LevelheadError
from app.keys import same
from app.resources import Resources
from app.store import signing, strategies
from app.store.db import store_errors
from app.store.strategies import WebhookStrategy

WRONG = "the secret is wrong, or there is no such strategy"


class Unauthorized(LevelheadError):
    """The secret is wrong, or there is no such strategy: the sender is told the same."""


class StaleSignature(Unauthorized):
    """The signature is right, and too old or from the future: perhaps somebody sends again what he overheard."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A POST as it came."""

    strategy_id: str
    path_secret: str | None
    raw: bytes
    content_type: str
    source: str  # the address that it comes from
    signed: Signed | None = None
    certified: bool = False  # by a trusted proxy

    def __repr__(self) -> str:
        return f"Delivery({self.strategy_id!r}, {len(self.raw)} bytes)"


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Who proved to be a strategy's sender. `webhook_id` is the delivery's own, where its signature proved that."""

    strategy: WebhookStrategy
    webhook_id: str | None


async def addressed(resources: Resources, delivery: Delivery, *in_body: str | None) -> Sender:
    """The strategy that a delivery is for, if its sender proves that he may send to it. Raises Unauthorized.

    A signature counts alone where the strategy has a key for it. Else the secret in the address counts, or else any of
    those in the body.
    """
    strategy_id = delivery.strategy_id.replace("\x00", "?")  # no strategy's name has either, and PostgreSQL takes one
    with store_errors():
        strategy = await resources.addressed(strategy_id)
        keys = []
        if delivery.signed is not None:
            keys = await signing.live(resources.pool, resources.keys, strategy_id)
    if strategy is not None and delivery.signed is not None and keys:
        _verify(delivery.signed, delivery.raw, keys, resources.now())
        return Sender(strategy=strategy, webhook_id=delivery.signed.id)
    given = in_body if delivery.path_secret is None else (delivery.path_secret,)
    await _authenticate(resources, strategy, [secret for secret in given if secret])
    assert strategy is not None
    return Sender(strategy=strategy, webhook_id=None)


def _verify(signed: Signed, raw: bytes, keys: list[bytes], now: datetime) -> None:
    if not is_signed(signed, raw, keys):
        raise Unauthorized(WRONG)
    age_s = signed.age_s(now)
    if abs(age_s) > TOLERANCE_S:
        raise StaleSignature(
            f"the signature is right, and its webhook-timestamp is {abs(age_s):.0f} s "
            f"{'old' if age_s > 0 else 'in the future'}; {TOLERANCE_S} s are allowed: sign each delivery anew, and set "
            "the clocks"
        )


def admit(resources: Resources, sender: Sender, delivery: Delivery) -> None:
    """Whether alerts of the strategy may come this way; asked of whoever proved to be its sender, so strangers learn
    nothing of it. Raises InvalidInput.
    """
    limits = sender.strategy.limits
    if limits.signed_only and sender.webhook_id is None:
        raise InvalidInput(
            "signature_missing",
            "The strategy takes signed alerts only (signed_only), and this one has the secret alone: have its sender "
            "sign it, or take the limit away.",
        )
    if limits.certified_only and not delivery.certified:
        raise InvalidInput(
            "certificate_missing",
            "The strategy takes alerts only whose sender's certificate was verified (certified_only), and no trusted "
            "proxy says so: look at LEVELHEAD_CERTIFICATE_HEADER and at what the proxy sends.",
        )
    sources = limits.sources
    if sources is None:
        sources = addresses.split(resources.settings.alert_sources)
    if sources and not addresses.among(addresses.read(delivery.source), addresses.networks(sources)):
        raise InvalidInput(
            "source_not_allowed",
            f"The alert came from {delivery.source}, and only {', '.join(sources)} may send: add the address to the "
            "list; if it is a proxy of yours, name it in LEVELHEAD_TRUSTED_PROXIES.",
        )


async def _authenticate(resources: Resources, strategy: WebhookStrategy | None, secrets: list[str]) -> None:
    """Compare with every live secret in constant time; an unknown strategy costs the same as a wrong secret.

    A secret that was hashed before a rotation of the master key is hashed anew, so that it outlives the overlap.
    """
    for secret in secrets or [""]:
        given = [keys.secret_hash(secret) for keys in resources.keys.valid]
        known = strategy.secret_hashes if strategy is not None else (bytes(len(given[0])),)
        matches = [one for one in given if any([same(one, other) for other in known])]
        if strategy is not None and secret and matches:
            if given[0] not in matches:
                with store_errors():
                    await strategies.rehash_secret(resources.pool, strategy.id, matches[0], given[0])
            return
    raise Unauthorized(WRONG)
