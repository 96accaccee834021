"""`python -m simulator`: run the exchange until SIGTERM or SIGINT."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from decimal import Decimal

import uvloop

from simulator.exchange import Config
from simulator.server import running


def parse(argv: list[str]) -> Config:
    usual = Config()
    what = "A local exchange that speaks Bybit V5 and Binance USD-M."
    parser = argparse.ArgumentParser(prog="simulator", description=what)
    parser.add_argument("--host", default=usual.host)
    parser.add_argument("--port", type=int, default=usual.port, help="0 takes any free one")
    parser.add_argument("--prices", default=usual.prices, metavar="random|manual|FILE")
    parser.add_argument("--symbol", help="of the price file; read from its name if left out")
    parser.add_argument("--speed", type=float, default=usual.speed, help="of the price file, times real time")
    parser.add_argument("--start-at", help="in the price file: HH:MM of its first day, or ISO, UTC")
    parser.add_argument("--seed", type=int, default=usual.seed, help="of the random walk")
    parser.add_argument("--tick-ms", type=int, default=usual.tick_ms, help="of the random walk")
    parser.add_argument("--state", metavar="FILE", help="remember accounts, orders and positions here")
    # By the environment where a command line is seen by others.
    parser.add_argument("--api-key", default=os.environ.get("SIMULATOR_API_KEY", usual.api_key))
    parser.add_argument("--api-secret", default=os.environ.get("SIMULATOR_API_SECRET", usual.api_secret))
    parser.add_argument("--balance", type=Decimal, default=usual.balance, help="USDT of a new account")
    return Config(**vars(parser.parse_args(argv)))


async def serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(config) as url:
        print(f"simulator listens on {url} (prices: {config.prices})", flush=True)
        await stop.wait()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = parse(sys.argv[1:])
    try:
        uvloop.run(serve(config))
    except (OSError, ValueError) as exc:
        print(f"simulator: {exc}", file=sys.stderr)
        sys.exit(2)  # trying again would not help


if __name__ == "__main__":
    main()
