"""What a watcher reaches: the accounts' venues, at hand so that a fire reads nothing, and a feed for each market."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from app.domain.refusals import Outcome
from app.errors import Refused
from app.resources import Connected, Resources
from app.store.accounts import VenueName
from app.venues.base import Origins, Venue
from workers.feed import Feed
from workers.private import AccountStreams
from workers.turns import every, guarded

ASK_S = 0.5

Key = tuple[str, str]  # venue, socket origin


class Markets:
    def __init__(
        self,
        resources: Resources,
        group: asyncio.TaskGroup,
        accounts: AccountStreams,
        *,
        open_feed: Callable[[VenueName, Origins], Feed],
        ask_prices: Callable[[Feed], Awaitable[None]],
        on_left: Callable[[UUID], None],
    ) -> None:
        """`on_left`: an account is about to leave its feed, for another one or for good."""
        self.feeds: dict[Key, Feed] = {}
        self.connected: dict[UUID, Connected] = {}  # account id -> its venue
        self._resources = resources
        self._group = group
        self._accounts = accounts
        self._open_feed = open_feed
        self._ask_prices = ask_prices
        self._on_left = on_left
        self._tasks: dict[Key, list[asyncio.Task[None]]] = {}

    def feed(self, account_id: UUID) -> Feed:
        return self.feeds[_key(self.connected[account_id])]

    def any_venue(self, feed: Feed) -> Venue:
        """Some account's at this feed's venue, for what is public."""
        for connected in self.connected.values():
            if self.feeds[_key(connected)] is feed:
                return connected.venue
        raise Refused(Outcome.NO_ACCOUNT, "no account trades on this feed any more")

    async def connect(self, account_id: UUID) -> None:
        """Have the account's venue at hand, its connections warm, and its two streams running."""
        connected = await self._resources.venues.of(account_id)
        if self.connected.get(account_id) is connected:
            return
        key = _key(connected)
        if key not in self.feeds:
            feed = self.feeds[key] = self._open_feed(connected.account.venue, connected.origins)
            self._tasks[key] = [
                self._group.create_task(feed.stream.run()),
                self._group.create_task(every(ASK_S, partial(self._ask_prices, feed))),
            ]
        if account_id in self.connected and self.feed(account_id) is not self.feeds[key]:
            self._on_left(account_id)  # armed at the new feed by who reloads
        self.connected[account_id] = connected
        self._group.create_task(guarded(connected.venue.server_time))  # kept warm for a fire from here on
        self._accounts.want(connected)

    async def look_again(self) -> None:
        """Accounts that were changed are reached in their new way; of those that are gone nothing is kept."""
        for account_id in list(self.connected):
            await guarded(self._connect_or_forget, account_id)
        used = {_key(connected) for connected in self.connected.values()}
        for key in self.feeds.keys() - used:
            del self.feeds[key]
            for task in self._tasks.pop(key):
                task.cancel()

    async def _connect_or_forget(self, account_id: UUID) -> None:
        try:
            await self.connect(account_id)
        except Refused as error:
            if error.code != Outcome.NO_ACCOUNT:
                raise
            self._on_left(account_id)
            del self.connected[account_id]
            self._accounts.forget(account_id)


def _key(connected: Connected) -> Key:
    return (connected.account.venue, connected.origins.ws)
