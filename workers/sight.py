"""Sight: of which of our symbols nothing true is heard, told to whoever is about to open something.

A quiet market is seen: the stream is there, and the price that is asked for meanwhile is the last one heard. Blind are
a feed without its stream, a symbol that trades while its stream says nothing, and one of which nothing can be asked
either.
"""

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from app.domain.level import TriggerBy
from app.domain.shards import lease_of
from app.log import event
from app.store import blind
from app.store.db import Pool, store_errors
from workers.feed import Feed

log = logging.getLogger("watcher")

UNLINKED_S = 1.0  # a link that is back sooner was never missed
DEAF_S = 3.0  # neither heard nor answered
MOVED = 2  # answers in a row that tell of a trade which was not heard: the first may have overtaken it
STILL_S = 3.0  # nothing happens any more: what is not heard is nothing
RENEW_MIN_S, RENEW_MAX_S = 5.0, 300.0  # between two renewals of a symbol's subscriptions

UNLINKED = "the exchange's price stream is not connected, so a crossed stop would be seen late"
UNHEARD = "it trades, but the exchange's price stream does not tell of it, so a crossed stop would be seen late"
DEAF = "nothing is heard of it, and the exchange does not answer when asked for its price"


class _Unheard:
    """A symbol that trades without being heard."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.price_at = now  # since when the price that is asked for has been the same
        self.renew_at = now
        self.pause_s = RENEW_MIN_S


class Sight:
    """Of one feed."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._unheard: dict[str, _Unheard] = {}
        self._prices: dict[str, Decimal | None] = {}  # of those: as they were asked for last

    def look(self) -> dict[str, str] | None:
        """What is dark now: symbol -> why; None while it is too early to tell. Renews what is not heard."""
        feed, now = self._feed, time.monotonic()
        if not feed.linked:
            if now < feed.link_changed_at + UNLINKED_S:
                return None
            return {blind.EVERYTHING: UNLINKED}
        return {symbol: why for symbol in feed.topics if (why := self._why(symbol, now)) is not None}

    def _why(self, symbol: str, now: float) -> str | None:
        feed = self._feed
        heard_at = feed.heard[TriggerBy.LAST].get(symbol, 0.0)
        known_at = max(heard_at, feed.answered.get(symbol, 0.0), feed.followed_at[symbol], feed.link_changed_at)
        if now > known_at + DEAF_S:
            return DEAF
        doubt, unheard = feed.doubts.get(symbol), self._unheard.get(symbol)
        if unheard is None:
            if doubt is None or doubt.moved < MOVED:
                return None
            unheard = self._unheard[symbol] = _Unheard(now)
        elif heard_at > unheard.since or doubt is None:
            del self._unheard[symbol]
            return None
        if self._prices.get(symbol) != doubt.price:
            self._prices[symbol] = doubt.price
            unheard.price_at = now
        if now >= unheard.renew_at:
            unheard.renew_at, unheard.pause_s = now + unheard.pause_s, min(2 * unheard.pause_s, RENEW_MAX_S)
            event(log, logging.WARNING, "it trades unheard: subscribing it anew", feed=feed.origins.ws, symbol=symbol)
            feed.stream.renew(symbol)
        elif now >= unheard.price_at + STILL_S:
            doubt.quiet_at, doubt.moved = doubt.price, 0
            del self._unheard[symbol]
            return None
        return UNHEARD


class Lookout:
    """Of all feeds, and what of it is told already."""

    def __init__(self) -> None:
        self._sights: dict[Feed, Sight] = {}
        self._dark: dict[str, dict[str, str]] = {}  # market -> what was dark in it when it was told last
        self._told: dict[str, dict[str, int]] = {}  # market -> the leases (with tokens) under which that was told

    async def tell(self, feeds: Iterable[Feed], pool: Pool, tokens: Mapping[str, int]) -> None:
        """Write down what is dark now, if that changed, under the leases (name -> token) of the symbols' shards. Of a
        shard that was taken over all is told anew: what counted was what the watcher before us had heard.
        """
        markets: dict[str, dict[str, str] | None] = {}
        for feed in feeds:
            dark = self._sights.setdefault(feed, Sight(feed)).look()
            others = markets.get(feed.market, {})
            markets[feed.market] = None if dark is None or others is None else others | dark
        for gone in [market for market in self._told if market not in markets]:
            markets[gone] = {}
        for market, now_dark in markets.items():
            before = self._dark.get(market)
            if now_dark is None or (now_dark, tokens) == (before, self._told.get(market)):
                continue
            with store_errors():
                if not await blind.tell(pool, market, _rows(now_dark, tokens), tokens):
                    return
            self._dark[market], self._told[market] = now_dark, dict(tokens)
            self._say(market, before or {}, now_dark)

    def _say(self, market: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        for symbol in now.keys() - before.keys():
            event(log, logging.WARNING, "blind", market=market, symbol=symbol or "all", why=now[symbol])
        for symbol in before.keys() - now.keys():
            event(log, logging.INFO, "sees again", market=market, symbol=symbol or "all")


def _rows(dark: Mapping[str, str], leases: Collection[str]) -> dict[tuple[str, str], str]:
    """(lease, symbol) -> why; a whole market is dark for each of these leases."""
    return {
        (lease, symbol): why
        for symbol, why in dark.items()
        for lease in (leases if symbol == blind.EVERYTHING else [lease_of(symbol)])
        if lease in leases
    }
