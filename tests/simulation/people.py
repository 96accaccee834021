"""People: whoever trades the account by hand, and whoever uses our API beside the alerts."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain.order import PositionSide
from app.domain.signal import Exits, PriceOrPct, StopLoss, Trailing
from app.errors import InvalidInput, LevelheadError
from app.flows.adopt import Adoption, adopt
from app.flows.change_exits import change_exits
from app.flows.manual import close_position
from app.store import strategies
from app.store.db import store_errors
from simulator import model
from tests.simulation.exchange import Exchange
from tests.simulation.invariants import UNSEEN_MS, Invariants
from tests.simulation.processes import House, Servers, current
from tests.simulation.schedule import SIZES, Happening
from tests.simulation.world import World

PATIENCE_S = 3.0
ADOPTIONS_MAX, ADOPTS_S = 8, 0.7
EXPECTED = (LevelheadError, asyncio.TimeoutError, OSError)


class People:
    """`houses` are the processes that live now, by their names."""

    def __init__(
        self,
        world: World,
        exchange: Exchange,
        servers: Servers,
        invariants: Invariants,
        houses: dict[str, House],
    ) -> None:
        self.world = world
        self.exchange = exchange
        self.servers = servers
        self.tables = servers.tables
        self.invariants = invariants
        self.houses = houses
        self._known_adoptions: dict[UUID, Decimal] = {}

    # -- at the exchange's own page ------------------------------------------------------------------------------------

    def by_others(self, one: Happening) -> None:
        """Somebody else trades on what is held, or the exchange takes it over."""
        account = self.exchange.accounts[one.account]
        for side in account.position_sides(one.of):
            position = self.exchange.engine.position(account, one.of, side)
            held = position.side
            if held is None:
                continue
            self.world.injected("hand", one.what, one.of, position.qty)
            most = self.exchange.engine.market(one.of).instrument.max_market_qty
            if one.what == "liquidation":
                self.exchange.liquidate(account, one.of, side)
            elif one.what == "stop_taken":
                self.invariants.ledger.holdings[account.name, one.of, side].bared = True
                self.exchange.take_stops(account, one.of, side)
            elif one.what == "hand_turns":
                if not account.hedge:
                    qty = min(2 * position.size, most)
                    self.exchange.by_hand(account, one.of, held.opposite, qty, reduce_only=False)
            elif one.what == "hand_adds":
                self.exchange.by_hand(account, one.of, held, min(position.size, most), reduce_only=False)
            else:
                step = self.exchange.engine.market(one.of).instrument.qty_step
                part = self.world.chance_of("hand_closes").choice((1, 2))
                qty = max(step, (position.size / part / step).to_integral_value() * step)
                self.exchange.by_hand(account, one.of, held.opposite, min(qty, position.size, most), reduce_only=True)
            return

    def open_by_hand(self, one: Happening) -> None:
        """Somebody opens a position where nothing is held."""
        account, chance = self.exchange.accounts[one.account], self.world.chance_of("hand_opens")
        sides = account.position_sides(one.of)
        if all(self.exchange.engine.position(account, one.of, side).side is None for side in sides):
            side = chance.choice((model.Side.BUY, model.Side.SELL))
            self.world.injected("hand", one.what, one.of, side)
            self.exchange.by_hand(account, one.of, side, SIZES[one.of], reduce_only=False)

    async def adopts(self, one: Happening) -> None:
        """A person adopts what the exchange holds; a book that is busy is tried again."""
        for _ in range(ADOPTIONS_MAX):
            house = self.houses["api0"]
            if not house.proc.dead:
                task = self.world.loop.create_task(self._take(house, one))
                house.tasks.add(task)
                await asyncio.wait([task], timeout=PATIENCE_S)
                if task.done() and task.result():
                    return
            await self.world.loop.pause(ADOPTS_S)

    async def _take(self, house: House, one: Happening) -> bool:
        """Whether it need not be tried again."""
        current.set(house)
        account_id, account = self.servers.account_ids[one.account], self.exchange.accounts[one.account]
        lately_ms = self.exchange.now_ms - UNSEEN_MS
        if any(fill.symbol == one.of and fill.at_ms > lately_ms for fill in account.fills):
            return False  # the list of positions may lag behind, and a hand's fill is not known to us yet
        book = next(book for book in self.world.plan.books if book.symbol == one.of)
        side = self.world.chance_of("adoption").choice((PositionSide.LONG, PositionSide.SHORT))
        try:
            with store_errors():
                strategy = await strategies.get(house.pool, book.strategy)
            assert strategy is not None
            wanted = Adoption(
                account_id=account_id, symbol=one.of, side=side if account.hedge else None, strategy=strategy,
                exits=Exits(stop_loss=StopLoss(pct=Decimal(1))), user_id=UUID(int=1),
            )  # fmt: skip
            await adopt(house.resources, wanted)
        except InvalidInput:
            return True
        except EXPECTED:
            return False
        return True

    def look(self, house: House, step: str) -> None:
        """An adoption is committed: from now on what is held there is ours."""
        if self.tables.server.holder is not None:
            return  # what a transaction has written may be undone yet
        for row in self.tables.positions.rows:
            if row["adopted_qty"] == self._known_adoptions.get(row["id"], Decimal(0)):
                continue
            self._known_adoptions[row["id"]] = row["adopted_qty"]
            account = self.exchange.accounts[self.servers.account_ids.index(row["account_id"])]
            for side in account.position_sides(row["symbol"]):
                holding = self.invariants.ledger.holdings[account.name, row["symbol"], side]
                if holding.sign == PositionSide(row["side"]).sign:  # else the exchange has shown what it was before
                    self.world.say("person", "has adopted", row["symbol"], row["qty"])
                    holding.adopt()
                    self.invariants.on_cover((account.name, row["symbol"], side))

    async def asks(self, one: Happening, what: Callable[[House, Happening], Coroutine[Any, Any, None]]) -> None:
        """Once, by the API; an answer that does not come is not asked for again."""
        house = self.houses["api0"]
        if house.proc.dead:
            return
        self.world.say("person", one.what, one.of)
        task = self.world.loop.create_task(what(house, one))
        house.tasks.add(task)
        await asyncio.wait([task], timeout=PATIENCE_S)

    async def disable(self, house: House, one: Happening) -> None:
        current.set(house)
        with suppress(*EXPECTED):
            with store_errors():
                await strategies.disable(house.pool, one.of)

    async def patch(self, house: House, one: Happening) -> None:
        current.set(house)
        live = [row for row in self.tables.positions.rows if row["status"] != "closed" and row["symbol"] == one.of]
        chance = self.world.chance_of("patches")
        exits, names = chance.choice(
            (
                (Exits(stop_loss=StopLoss(pct=Decimal("0.5"))), ["stop_loss"]),
                (Exits(stop_loss=StopLoss(pct=Decimal(3))), ["stop_loss"]),
                (Exits(), ["take_profit"]),
                (Exits(), ["stop_loss"]),
                (Exits(trailing=Trailing(distance=PriceOrPct(pct=Decimal("0.4")))), ["trailing", "stop_loss"]),
            )
        )
        if live:
            with suppress(*EXPECTED):
                await change_exits(house.resources, live[0]["id"], exits, names, UUID(int=1))

    async def presses(self, fraction: Decimal) -> None:
        """A person has a position closed, or a part of it; an answer that does not come is not asked for again."""
        live = [row for row in self.tables.positions.rows if row["status"] != "closed"]
        house = self.houses["api0"]
        if not live or house.proc.dead:
            return
        self.world.say("person", "closes", fraction, live[0]["side"], live[0]["symbol"])
        task = self.world.loop.create_task(self._close(house, live[0]["id"], fraction))
        house.tasks.add(task)
        await asyncio.wait([task], timeout=PATIENCE_S)

    async def _close(self, house: House, position_id: UUID, fraction: Decimal) -> None:
        current.set(house)
        with suppress(LevelheadError):
            await close_position(house.resources, position_id, fraction, UUID(int=1))
