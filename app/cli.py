"""The command `levelhead`. Heavy modules are imported by the subcommand that needs them, so that `--help` is quick."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.errors import LevelheadError
from app.settings import Settings, read

EXIT_NEVER_BETTER = 2
"""An error that a person must mend; a supervisor needs not try again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; what a person can mend is one sentence on stderr."""
    arguments, rest = _parse(sys.argv[1:] if argv is None else list(argv))
    if arguments.command == "simulator":
        # A program of its own that shares nothing with us, not even a process.
        os.execv(sys.executable, [sys.executable, "-P", "-m", "simulator", *rest])
    try:
        settings = read()
        _configure_log(settings, arguments.command)
        return COMMANDS[arguments.command](arguments, settings)
    except LevelheadError as exc:
        print(f"levelhead {arguments.command}: {exc}", file=sys.stderr, flush=True)
        return EXIT_NEVER_BETTER
    except KeyboardInterrupt:
        return 130


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="levelhead",
        description="Your alert fires once. Your stop holds. Settings come from LEVELHEAD_… or a .env file.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="run everything on this machine, with servers of its own where none is set")
    up.add_argument("--data-dir", type=Path, metavar="DIR", help="keeps everything (default: ./data)")
    up.add_argument("--host", metavar="H", help="address to listen on (default: 127.0.0.1)")
    up.add_argument("--port", type=_port, metavar="N", help="port to listen on (default: 8000)")
    up.add_argument("--no-sample", action="store_true", help="do not post a sample alert at the first start")
    up.add_argument("--prices", metavar="random|FILE|manual", help="where the simulator's prices come from")
    up.add_argument("--speed", metavar="X", help="how much faster than real the simulator replays FILE")
    up.add_argument("--start-at", metavar="T", help="the instant in FILE to start at")
    up.add_argument("--symbol", metavar="S", help="of FILE, and of the sample alert (default: BTCUSDT)")
    commands.add_parser("api", help="serve the webhook and the JSON API")
    commands.add_parser("worker", help="execute alerts and commands; run as many as needed")
    commands.add_parser("watcher", help="follow prices and fire levels; several share the symbols")
    commands.add_parser("simulator", help="a local exchange to trade on (has flags of its own)", add_help=False)
    commands.add_parser("migrate", help="bring the database to the current schema")
    doctor = commands.add_parser("doctor", help="check everything and say what to mend")
    doctor.add_argument("--data-dir", type=Path, metavar="DIR", help="of the `up` to check (default: ./data)")
    doctor.add_argument("--account", metavar="NAME", help="look at this account alone (default: all)")
    doctor.add_argument("--live", action="store_true", help="also open and close the smallest position there")
    doctor.add_argument("--symbol", metavar="S", help="to look at and to trade with --live (default: BTCUSDT)")
    doctor.add_argument("--yes-trade-minimum", action="store_true", help="with --live: do not ask before")
    doctor.add_argument("--mainnet", action="store_true", help="with --live: allow real money")
    alert = commands.add_parser("alert", help="the message to paste into the chart, and what a message would do")
    of_alert = alert.add_subparsers(dest="what", required=True, metavar="WHAT")
    template = of_alert.add_parser("template", help="print the message for each kind of chart alert")
    explain = of_alert.add_parser("explain", help="say what the alert in a file would do; nothing is done")
    explain.add_argument("file", metavar="FILE", help="the alert's body (-: standard input)")
    explain.add_argument("--url", metavar="URL", help="where Levelhead is (default: as in DIR/connection.json)")
    explain.add_argument("--data-dir", type=Path, metavar="DIR", help="of the `up` to ask (default: ./data)")
    for one in (template, explain):
        one.add_argument("--strategy", default="demo", metavar="S", help="its id (default: demo)")
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command != "simulator":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.command == "doctor" and not arguments.live and (arguments.yes_trade_minimum or arguments.mainnet):
        parser.error("--yes-trade-minimum and --mainnet belong to --live")
    return arguments, rest


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 1 to 65535")
    return int(text)


def _configure_log(settings: Settings, command: str) -> None:
    from app.log import configure

    configure(settings.log_format, settings.log_level, command)


def _up(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.up.main import UpOptions, up

    options = UpOptions(
        data_dir=arguments.data_dir,
        host=arguments.host,
        port=arguments.port,
        sample=not arguments.no_sample,
        prices=arguments.prices,
        speed=arguments.speed,
        start_at=arguments.start_at,
        symbol=arguments.symbol,
    )
    return asyncio.run(up(options, settings))


def _api(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.main import serve

    return serve(settings)


def _worker(arguments: argparse.Namespace, settings: Settings) -> int:
    from workers.worker import serve

    return serve(settings)


def _watcher(arguments: argparse.Namespace, settings: Settings) -> int:
    from workers.watcher import serve

    return serve(settings)


def _migrate(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.store.migrate import run

    return run(settings)


def _doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.up.doctor import Live, run, symbol_of

    symbol = symbol_of(arguments.symbol)
    live = Live(yes=arguments.yes_trade_minimum, mainnet=arguments.mainnet) if arguments.live else None
    return run(settings, data_dir=arguments.data_dir, account=arguments.account, symbol=symbol, live=live)


def _alert(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.up.alert import explain, template

    if arguments.what == "template":
        print(template(arguments.strategy), end="")
        return 0
    return explain(
        arguments.file, arguments.strategy, arguments.url, arguments.data_dir or settings.data_dir or Path("data")
    )


COMMANDS: dict[str, Callable[[argparse.Namespace, Settings], int]] = {
    "up": _up,
    "api": _api,
    "worker": _worker,
    "watcher": _watcher,
    "migrate": _migrate,
    "doctor": _doctor,
    "alert": _alert,
}

if __name__ == "__main__":
    sys.exit(main())
