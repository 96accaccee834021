"""One running `levelhead up` for each module: manual prices, no sample, crash points that can be armed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.crash import VARIABLE
from tests.chaos.support import Chaos, Crashes
from tests.support.stack import up


@asynccontextmanager
async def chaos_of(folder: Path, *flags: str, settings: Mapping[str, str] | None = None) -> AsyncIterator[Chaos]:
    """A stack of one's own in `folder`, with LEVELHEAD_ settings; for what would disturb the module's."""
    crashes = Crashes(folder / "crashes")
    settings = {VARIABLE: str(crashes.folder), **(settings or {})}
    async with up(folder / "data", "--no-sample", "--prices", "manual", *flags, settings=settings) as stack:
        yield Chaos(stack, crashes)


@pytest.fixture(scope="module")
async def chaos(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chaos]:
    """The module's stack."""
    async with chaos_of(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.fixture
async def heal(chaos: Chaos) -> AsyncIterator[None]:
    """The exchange works again after the test, whatever became of it."""
    yield
    await chaos.clear_faults()
