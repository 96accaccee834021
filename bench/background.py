"""Armed levels that no tick comes near: what a watcher with much to watch carries beside."""

import asyncio

import msgspec

from bench.alert_path import eventually
from bench.exchange import FAR
from bench.stack import STRATEGY, Stack
from bench.wire import Wire

RELOADED_S = 7.0  # the watcher reads everything anew every 5 s

# Rungs of one position's ladder, written as arming would write them.
ARM = """
WITH p AS (
    SELECT * FROM positions WHERE symbol = $1 AND status = 'open'
), ids AS (
    SELECT n, gen_random_uuid() AS intent, gen_random_uuid() AS "order", gen_random_uuid() AS level
      FROM generate_series(100, 99 + $2::int) AS n
), intended AS (
    INSERT INTO intents (id, cause_kind, cause_id, leg, account_id, symbol, strategy_id, position_id, position_side,
                         kind, reason, side, qty, status)
    SELECT ids.intent, 'level', ids.level, 0, p.account_id, p.symbol, p.strategy_id, p.id, p.side, 'reduce',
           'take_profit', 'sell', 1, 'armed'
      FROM ids, p
), ordered AS (
    INSERT INTO orders (id, intent_id, attempt, client_order_id, account_id, symbol, side, qty, reduce_only, status)
    SELECT ids."order", ids.intent, 0, 'bench' || replace(ids."order"::text, '-', ''), p.account_id, p.symbol, 'sell',
           1, true, 'armed'
      FROM ids, p
)
INSERT INTO levels (id, position_id, kind, rung, fraction, qty, price, status, intent_id, order_id)
SELECT ids.level, p.id, 'take_profit', ids.n, 0.5, 1, 1000 + ids.n, 'armed', ids.intent, ids."order"
  FROM ids, p
"""


async def arm_far_away(stack: Stack, count: int) -> None:
    """Open one position in an instrument of its own and hang `count` levels on it."""
    await stack.price("100", FAR)
    alert = {
        "secret": stack.secret, "symbol": FAR, "action": "buy", "size": {"base": "1000"}, "stop_loss": {"pct": 50},
    }  # fmt: skip
    wire = await Wire.open(stack.api_url)
    try:
        status, answer = await wire.post(f"/webhook/{STRATEGY}", msgspec.json.encode(alert))
        assert status == 202, answer
    finally:
        await wire.close()

    async def is_open() -> bool:
        return bool(await stack.rows("SELECT 1 FROM positions WHERE symbol = $1 AND status = 'open'", FAR))

    await eventually(is_open, "the position far away")
    await stack.rows(ARM, FAR, count)
    await asyncio.sleep(RELOADED_S)
