"""Where each venue's environments are reached, unless an account names other origins.

The simulator is wherever somebody started it, so it has no default. Accounts at a regional site of Bybit (`.eu`, `.kz`,
`.tr` …), or elsewhere than here, have the environment `custom` and name their hosts.

Origins only: Bybit's paths are `/v5/…`; Binance's sockets are split into `/public`, `/market` and `/private` below the
one origin, and its orders go to `/fapi/…`, or over a socket to `/ws-fapi/v1` of another host.
"""

from app.venues.base import Origins

_BINANCE_DEMO = Origins(
    rest="https://demo-fapi.binance.com",
    ws="wss://demo-fstream.binance.com",
    ws_orders="wss://testnet.binancefuture.com",
)

_DEFAULTS = {
    # https://bybit-exchange.github.io/docs/v5/guide and …/docs/v5/ws/connect
    ("bybit", "mainnet"): Origins(rest="https://api.bybit.com", ws="wss://stream.bybit.com"),
    ("bybit", "testnet"): Origins(rest="https://api-testnet.bybit.com", ws="wss://stream-testnet.bybit.com"),
    # https://bybit-exchange.github.io/docs/v5/demo: market data is mainnet's. Its orders go over REST alone
    # (…/docs/v5/websocket/trade/guideline).
    ("bybit", "demo"): Origins(
        rest="https://api-demo.bybit.com",
        ws="wss://stream.bybit.com",
        ws_private="wss://stream-demo.bybit.com",
        ws_orders="",
    ),
    # https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info; its order entry is on
    # …/websocket-api-general-info.
    ("binance", "mainnet"): Origins(
        rest="https://fapi.binance.com", ws="wss://fstream.binance.com", ws_orders="wss://ws-fapi.binance.com"
    ),
    # Binance keeps one practice environment and calls it both names. The page gives wss://fstream.binancefuture.com for
    # its sockets; demo-fstream, beside the REST host, was seen to deliver prices in 2026-09.
    ("binance", "testnet"): _BINANCE_DEMO,
    ("binance", "demo"): _BINANCE_DEMO,
}


def default_origins(venue: str, environment: str) -> Origins | None:
    """The origins of a venue's environment; None where there is no default, as for a simulator."""
    return _DEFAULTS.get((venue, environment))
