"""Tell people of what they alone can mend: a key that its exchange refuses, an instrument that is held and no longer
traded, a strategy whose alerts stay away. Once when it begins and once when it is over, in the log and as an event;
whoever is at it when it happens (an opening, a close) goes by what the exchange says at that moment and does not ask
here.
"""

import logging
from uuid import UUID

from app.errors import OutcomeUnknown, Refused, Transient
from app.log import event
from app.resources import Connected, Resources
from app.store import positions, strategies, troubles
from app.store.db import store_errors, transaction

log = logging.getLogger("notices")

KEY = ""
KEY_CURE = (
    "nothing is opened, and closes are tried until they go through: enter a key that works with PATCH "
    "/api/v1/accounts/{id}; `levelhead doctor` says what is wrong with this one"
)
SILENT_CURE = "look at the alert in the chart: it may have expired, been stopped, or send to another address"
NOT_TRADING = (
    "the exchange has halted or delisted it: nothing is opened, closes are tried, its stops may not fire there"
)


async def all_accounts(resources: Resources) -> None:
    """Look at every account that is in use."""
    with store_errors():
        found = await troubles.accounts(resources.pool)
    for account_id in found:
        await account(resources, account_id)


async def all_strategies(resources: Resources) -> None:
    """Look at every strategy that expects an alert every so often."""
    with store_errors():
        found = await strategies.quiet(resources.pool)
    for one in found:
        if one.silent is one.told:
            continue
        async with transaction(resources.pool) as connection:
            if one.silent:
                news = await strategies.silent(connection, one.id, one.since)
            else:
                news = await strategies.heard(connection, one.id)
            if news:
                kind = "strategy_silent" if one.silent else "strategy_heard"
                await positions.record(connection, kind, detail={"strategy": one.id, "since": one.since})
        if news and one.silent:
            event(log, logging.ERROR, "no alert came", strategy=one.id, since=one.since, cure=SILENT_CURE)
        elif news:
            event(log, logging.INFO, "alerts come again", strategy=one.id)


async def account(resources: Resources, account_id: UUID) -> None:
    """Look at an account's key, and at the instruments that it holds."""
    try:
        connected = await resources.venues.of(account_id)
    except Refused as refused:
        await _begin(resources, account_id, str(account_id), KEY, "key_refused", f"{refused.reason}; {KEY_CURE}")
        return
    await _key(resources, connected)
    await _instruments(resources, connected)


async def _key(resources: Resources, connected: Connected) -> None:
    account_id, name = connected.account.id, connected.account.name
    try:
        await connected.venue.equity()
    except Refused as refused:
        await _begin(resources, account_id, name, KEY, "key_refused", f"{refused.reason}; {KEY_CURE}")
    except (Transient, OutcomeUnknown):
        return  # it did not get so far as to look at the key
    else:
        await _end(resources, account_id, name, KEY, "key_accepted")


async def _instruments(resources: Resources, connected: Connected) -> None:
    account_id, name = connected.account.id, connected.account.name
    with store_errors():
        held = await troubles.held(resources.pool, account_id)
        told = await troubles.symbols(resources.pool, account_id)
    for symbol in sorted(held | told):
        try:
            trading = symbol not in held or (await connected.venue.instrument(symbol)).trading
        except Refused:
            trading = False  # it is not even listed any more
        except (Transient, OutcomeUnknown):
            continue
        if trading:
            await _end(resources, account_id, name, symbol, "trading_again")
        else:
            await _begin(resources, account_id, name, symbol, "not_trading", NOT_TRADING)


async def _begin(resources: Resources, account_id: UUID, name: str, symbol: str, kind: str, why: str) -> None:
    async with transaction(resources.pool) as connection:
        if not await troubles.begin(connection, account_id, symbol, why):
            return
        await positions.record(connection, kind, account_id=account_id, detail=_detail(symbol, why=why))
    event(log, logging.ERROR, kind.replace("_", " "), account=name, symbol=symbol or None, why=why)


async def _end(resources: Resources, account_id: UUID, name: str, symbol: str, kind: str) -> None:
    async with transaction(resources.pool) as connection:
        if not await troubles.end(connection, account_id, symbol):
            return
        await positions.record(connection, kind, account_id=account_id, detail=_detail(symbol))
    event(log, logging.INFO, kind.replace("_", " "), account=name, symbol=symbol or None)


def _detail(symbol: str, **more: str) -> dict[str, object]:
    return {**({"symbol": symbol} if symbol else {}), **more}
