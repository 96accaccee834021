"""Runs in an environment of its own, under uvicorn: a handler that does nothing."""

from fastapi import FastAPI

app = FastAPI()


@app.post("/webhook/{strategy}", status_code=202)  # type: ignore[untyped-decorator]
async def empty(strategy: str) -> None:
    return None
