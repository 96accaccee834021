"""Stands in for every process that `up` starts: `fake_process.py app.cli api`, `fake_process.py simulator --port N` …

It notes its arguments and the names of its environment in DIR/seen/, so that a test can look.
"""

import http.server
import json
import os
import sys
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(module: str, *arguments: str) -> None:
    name = arguments[0] if module == "app.cli" else module
    seen = Path(os.environ.get("LEVELHEAD_DATA_DIR") or arguments[arguments.index("--state") + 1])
    seen = (seen if module == "app.cli" else seen.parent) / "seen"
    seen.mkdir(exist_ok=True)
    (seen / f".{name}").write_text(json.dumps({"argv": arguments, "environ": dict(os.environ)}))
    (seen / f".{name}").rename(seen / name)  # whoever finds it finds all of it
    if name == "migrate":
        return
    if name in ("api", "simulator"):
        port = os.environ["LEVELHEAD_PORT"] if name == "api" else arguments[arguments.index("--port") + 1]
        http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
