"""What people alone can mend is told, once when it begins and once when it is over."""

from app.flows import notices
from tests.support.house import House


async def told(house: House) -> list[str]:
    await notices.all_strategies(house.resources)
    found = await house.rows("SELECT kind FROM events WHERE kind LIKE 'strategy_%' ORDER BY id")
    return [row["kind"] for row in found]


async def expects(house: House, seconds: int) -> None:
    await house.resources.pool.execute(
        "UPDATE strategies SET limits = jsonb_build_object('alert_every_s', $1::int), "
        "updated_at = now() - make_interval(hours => 2)",
        seconds,
    )


async def test_a_strategy_whose_alerts_stay_away_is_told_of_once_and_again_when_they_come(house: House) -> None:
    assert await told(house) == [], "none is expected"
    await expects(house, 3600)
    assert await told(house) == ["strategy_silent"]
    assert await told(house) == ["strategy_silent"]
    await house.alert(symbol="BTCUSDT", action="close")
    assert await told(house) == ["strategy_silent", "strategy_heard"]
    assert await told(house) == ["strategy_silent", "strategy_heard"]
    await house.resources.pool.execute("UPDATE alerts SET received_at = now() - interval '61 minutes'")
    assert (await told(house))[2:] == ["strategy_silent"]


async def test_time_counts_from_the_last_change_and_only_while_the_strategy_is_enabled(house: House) -> None:
    await expects(house, 3600)
    await house.resources.pool.execute("UPDATE strategies SET enabled = false")
    assert await told(house) == []
    await house.resources.pool.execute("UPDATE strategies SET enabled = true, updated_at = now()")
    assert await told(house) == []
    await house.resources.pool.execute("UPDATE strategies SET updated_at = now() - interval '3599 seconds'")
    assert await told(house) == []
    await house.resources.pool.execute("UPDATE strategies SET updated_at = now() - interval '3601 seconds'")
    assert await told(house) == ["strategy_silent"]
