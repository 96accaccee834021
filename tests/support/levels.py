"""What is armed, whole."""

from app.store import levels
from app.store.db import Pool
from app.store.levels import Armed


async def all_armed(pool: Pool) -> list[Armed]:
    """Every armed level; there are few in a test."""
    ids = [one.id async for page in levels.standing(pool) for one in page]
    return await levels.armed_with_ids(pool, ids)
