import pytest

from app.venues.origins import default_origins


@pytest.mark.parametrize("environment", ["mainnet", "testnet", "demo"])
@pytest.mark.parametrize("venue", ["bybit", "binance"])
def test_every_environment_of_an_exchange_has_origins(venue: str, environment: str) -> None:
    origins = default_origins(venue, environment)
    assert origins is not None
    assert origins.rest.startswith("https://")
    assert origins.ws.startswith("wss://")


def test_bybits_demo_takes_its_prices_from_mainnet_and_its_account_from_demo() -> None:
    demo, mainnet = default_origins("bybit", "demo"), default_origins("bybit", "mainnet")
    assert demo is not None
    assert mainnet is not None
    assert demo.ws == mainnet.ws
    assert demo.ws_private == "wss://stream-demo.bybit.com"


def test_a_simulator_is_wherever_somebody_started_it() -> None:
    assert default_origins("bybit", "simulator") is None
    assert default_origins("nowhere", "mainnet") is None
