"""Where a request comes from, whatever anybody writes into its headers."""

import pytest

from app.addresses import PUBLISHED, BadAddress, among, client, networks, read, split

PROXIES = networks(("10.0.0.0/8", "127.0.0.1", "2001:db8::/32"))
CHART = "52.89.214.238"


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        (CHART, [], CHART),
        (CHART, ["1.2.3.4"], CHART),  # a stranger says what he likes
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [CHART], CHART),
        ("::ffff:127.0.0.1", [CHART], CHART),  # over a socket of both families
        ("127.0.0.1", [f"::ffff:{CHART}"], CHART),
        ("127.0.0.1", [f"{CHART}:4711"], CHART),
        ("127.0.0.1", [f"  {CHART}\t"], CHART),
        ("2001:db8::1", ["2001:4860::1"], "2001:4860::1"),
        ("2001:0DB8:0::1", ["[2001:4860:0:0::1]:443"], "2001:4860::1"),
        ("127.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("127.0.0.1", [f"{CHART}, 1.2.3.4"], "1.2.3.4"),  # the first was written by 1.2.3.4 itself
        ("127.0.0.1", [f"1.2.3.4, {CHART}, 10.1.1.1"], CHART),  # two proxies of ours
        ("127.0.0.1", ["1.2.3.4", f"{CHART}, 10.1.1.1"], CHART),  # in several lines
        ("127.0.0.1", ["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [f"{CHART},"], "127.0.0.1"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", [f"{CHART}, _hidden, 10.1.1.1"], "10.1.1.1"),
        ("127.0.0.1", [f"for={CHART}"], "127.0.0.1"),
        ("127.0.0.1", ["[2001:4860::1"], "127.0.0.1"),
        ("127.0.0.1", ["[2001:4860::1]x"], "127.0.0.1"),
        ("127.0.0.1", ["1.2.3.4:"], "127.0.0.1"),
        ("127.0.0.1", ["1.2.3.04"], "127.0.0.1"),
        ("127.0.0.1", ["\xb2.2.3.4"], "127.0.0.1"),
        ("", [CHART], ""),  # no address of a socket: nobody is trusted
        ("chart", [CHART], "chart"),
    ],
)
def test_the_sender_is_who_the_last_trusted_proxy_heard(peer: str, forwarded: list[str], found: str) -> None:
    assert client(peer, forwarded, PROXIES) == found


def test_without_trusted_proxies_the_socket_alone_counts() -> None:
    assert client("127.0.0.1", [CHART], ()) == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "known", "is_in"),
    [
        ("52.89.214.238", ("tradingview",), True),
        ("52.89.214.239", ("tradingview",), False),
        ("10.255.0.1", ("tradingview", "10.0.0.0/8"), True),
        ("11.0.0.1", ("10.0.0.0/8",), False),
        ("2001:db8::5", ("2001:DB8::/64",), True),
        ("2001:db8:0:1::5", ("2001:db8::/64",), False),
        ("10.0.0.1", ("::/0",), False),
        ("10.0.0.1", ("0.0.0.0/0",), True),
        ("nonsense", ("0.0.0.0/0", "::/0"), False),
        ("", ("0.0.0.0/0",), False),
    ],
)
def test_an_address_is_among_those_that_are_listed(address: str, known: tuple[str, ...], is_in: bool) -> None:
    assert among(read(address), networks(known)) is is_in


def test_the_published_addresses_are_those_of_the_vendor() -> None:
    assert set(PUBLISHED) == {"52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7"}


@pytest.mark.parametrize("word", ["10.0.0.1/8", "10.0.0", "host", "", "10.0.0.0/33", "Tradingview"])
def test_what_is_no_address_is_named(word: str) -> None:
    with pytest.raises(BadAddress, match=f"^{word}$"):
        networks(("127.0.0.1", word))


def test_a_list_in_a_setting_is_split_at_commas() -> None:
    assert split(" TradingView , ::1,") == ("tradingview", "::1")
    assert split(None) == ()
