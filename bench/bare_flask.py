"""Runs in an environment of its own, under gunicorn: a handler that does nothing."""

from flask import Flask

app = Flask(__name__)


@app.post("/webhook/<strategy>")  # type: ignore[untyped-decorator]
def empty(strategy: str) -> tuple[str, int]:
    return "", 202
