"""IP addresses and networks as people write them, and whether an address is among them."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from app.errors import LevelheadError

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

TRADINGVIEW: Final = "tradingview"
"""The word for PUBLISHED."""
PUBLISHED: Final = ("52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7")
"""Where TradingView says that its alerts come from: https://www.tradingview.com/support/solutions/43000529348/"""


class BadAddress(LevelheadError):
    """A word is neither an address nor a network; the message is the word."""


@lru_cache(maxsize=1024)
def networks(words: tuple[str, ...]) -> Networks:
    """Addresses, networks (`10.0.0.0/8`) and the word `tradingview`. Raises BadAddress."""
    written = [one for word in words for one in (PUBLISHED if word == TRADINGVIEW else (word,))]
    try:
        return tuple(ip_network(word := one) for one in written)
    except ValueError:
        raise BadAddress(word) from None


def split(text: str | None) -> tuple[str, ...]:
    """The words of a list in a setting."""
    return tuple(word for word in (part.strip().lower() for part in (text or "").split(",")) if word)


def read(text: str) -> Address | None:
    """The address in what a proxy or a socket says: `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]:5678`.

    None if it is none. An IPv4 address that came over an IPv6 socket is the IPv4 address.
    """
    host = text.strip()
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or not (port == "" or (port[0] == ":" and port[1:].isdecimal())):
            return None
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        if not port.isdecimal():
            return None
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def among(address: Address | None, known: Networks) -> bool:
    return address is not None and any(address in network for network in known)


def client(peer: str, forwarded: Sequence[str], proxies: Networks) -> str:
    """Who sends, as text: `peer` is the socket's other end, `forwarded` are the lines of X-Forwarded-For.

    Each proxy adds on the right whom it heard, and anybody may have written what stands left of that. So it is read
    from the right for as long as trusted proxies speak; something that is no address ends it.
    """
    if not forwarded:
        return _written(peer)
    last = read(peer)
    if last is None:
        return peer
    for text in reversed(",".join(forwarded).split(",")):
        if not among(last, proxies):
            break
        before = read(text)
        if before is None:
            break
        last = before
    return str(last)


@lru_cache(maxsize=1024)
def _written(peer: str) -> str:
    address = read(peer)
    return peer if address is None else str(address)
