"""Who stands at the door: which strategy a delivery is for, and whether its sender proves to be that strategy's."""

import msgspec

from app import addresses
from app.errors import InvalidInput, LevelheadError
from app.keys import same
from app.resources import Resources
from app.store import strategies
from app.store.db import store_errors
from app.store.strategies import WebhookStrategy


class Unauthorized(LevelheadError):
    """The secret is wrong, or there is no such strategy: the sender is told the same."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A POST as it came."""

    strategy_id: str
    path_secret: str | None
    raw: bytes
    content_type: str
    source: str  # the address that it comes from

    def __repr__(self) -> str:
        return f"Delivery({self.strategy_id!r}, {len(self.raw)} bytes)"


async def addressed(resources: Resources, delivery: Delivery, *in_body: str | None) -> WebhookStrategy:
    """The strategy that a delivery is for. The secret in its address counts, else any of those in its body.

    Raises Unauthorized.
    """
    with store_errors():
        strategy = await resources.addressed(delivery.strategy_id)
    given = in_body if delivery.path_secret is None else (delivery.path_secret,)
    await _authenticate(resources, strategy, [secret for secret in given if secret])
    assert strategy is not None
    return strategy


def admit(resources: Resources, strategy: WebhookStrategy, delivery: Delivery) -> None:
    """Whether alerts of the strategy may come this way; asked of whoever has its secret, so strangers learn nothing of
    it. Raises InvalidInput.
    """
    sources = strategy.limits.sources
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
    raise Unauthorized("the secret is wrong, or there is no such strategy")
