"""The fixtures that other tests stand on."""

import asyncpg
import redis.asyncio

from tests.support.databases import MakeDatabase


async def test_each_database_is_fresh(make_database: MakeDatabase) -> None:
    first, second = await make_database(), await make_database()
    assert first != second
    connection = await asyncpg.connect(first)
    await connection.execute("CREATE TABLE only_here (id int)")
    await connection.close()
    connection = await asyncpg.connect(second)
    assert await connection.fetchval("SELECT to_regclass('only_here')") is None
    await connection.close()


async def test_redis_is_empty_at_the_start_of_a_test(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


async def test_redis_is_empty_again_in_the_next(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
