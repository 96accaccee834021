"""The real `levelhead up`, its own processes and first-start data replaced by fakes; flags as on the command line."""

import sys
from pathlib import Path

from app.cli import main
from app.settings import Settings
from app.up import first_start
from app.up import main as up_module
from app.up.first_start import ConnectionInfo


def fake_command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("fake_process.py")), module, *arguments]


async def ensure(
    settings: Settings, connection_file: Path, simulator_url: str, api_key: str, api_secret: str, base_url: str
) -> ConnectionInfo:
    return ConnectionInfo(
        url=base_url,
        admin_email="admin@levelhead.local",
        admin_password="a-password",
        webhook_url=f"{base_url}/webhook/demo",
        webhook_secret="a-webhook-secret",
        simulator_url=simulator_url,
    )


def example_alert(info: ConnectionInfo, symbol: str) -> bytes:
    return f'{{"symbol": "{symbol}", "secret": "{info.webhook_secret}"}}'.encode()


async def post_sample(info: ConnectionInfo, symbol: str) -> None:
    sys.stdout.write(f"sample posted for {symbol}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    up_module.command = fake_command
    first_start.ensure = ensure
    first_start.example_alert = example_alert
    first_start.post_sample = post_sample
    sys.exit(main(["up", *sys.argv[1:]]))
