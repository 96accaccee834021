"""The life of a position is the same on both exchanges, whatever differs on the wire."""

from decimal import Decimal

from tests.support.house import House

D = Decimal
LONG = {"symbol": "BTCUSDT.P", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}


async def resting_stops(house: House, symbol: str = "BTCUSDT") -> list[tuple[str, Decimal]]:
    connected = await house.resources.venues.of(house.account_id)
    return [(stop.side.value, stop.price) for stop in await connected.venue.resting_stops(symbol)]


async def test_an_alert_opens_a_position_that_is_protected_at_the_exchange(each_house: House) -> None:
    outcome = await each_house.alert(
        **LONG, take_profit=[{"pct": 1, "fraction": 0.5}, {"price": "61000", "fraction": 0.5}]
    )
    assert (outcome["status"], outcome["code"]) == ("done", "executed"), outcome
    position = await each_house.position()
    assert position is not None
    assert (position.side, position.qty, position.entry_price) == ("long", D("0.01"), D("60000"))
    assert await each_house.held() == ("long", "0.01")
    armed = await each_house.rows(
        "SELECT kind, rung, price, qty FROM levels WHERE status = 'armed' ORDER BY kind, rung"
    )
    assert [(x["kind"], x["price"], x["qty"]) for x in armed] == [
        ("stop_loss", D("59400.0"), D("0.01")),
        ("take_profit", D("60600.0"), D("0.005")),
        ("take_profit", D("61000.0"), D("0.005")),
    ]
    assert position.native_stop is not None
    assert await resting_stops(each_house) == [("long", position.native_stop)]
    assert position.native_stop < D("59400"), "the watcher is first while it lives"


async def test_every_order_was_committed_before_it_was_sent(each_house: House) -> None:
    await each_house.alert(**LONG)
    [request] = await each_house.sent()
    [order] = await each_house.rows("SELECT * FROM orders WHERE status <> 'armed'")
    assert order["client_order_id"] in str(request["body"] or request["query"])
    assert order["created_at"].timestamp() * 1e9 <= request["received_at_ns"]
    assert (order["status"], order["filled_qty"]) == ("filled", D("0.01"))


async def test_a_close_ends_it_with_its_result_and_nothing_rests(each_house: House) -> None:
    await each_house.alert(**LONG)
    await each_house.price("60600")
    outcome = await each_house.alert(symbol="BTCUSDT", action="close")
    assert outcome["status"] == "done", outcome
    position = await each_house.last_position()
    assert (position.status, position.qty, position.close_reason) == ("closed", D(0), "signal")
    assert position.realized_pnl == D("6.00")
    assert position.fees > 0
    assert await each_house.held() == ("flat", "0")
    assert await resting_stops(each_house) == []
    assert await each_house.rows("SELECT 1 FROM levels WHERE status = 'armed'") == []


async def test_an_addition_moves_the_stop_and_a_reduction_keeps_it(each_house: House) -> None:
    await each_house.alert(**LONG)
    await each_house.price("61200")
    outcome = await each_house.alert(symbol="BTCUSDT", action="add", size={"base": "0.01"})
    assert outcome["status"] == "done", outcome
    position = await each_house.position()
    assert position is not None
    assert (position.qty, position.entry_price) == (D("0.02"), D("60600"))
    assert await resting_stops(each_house) == [("long", position.native_stop)]
    moved = position.native_stop
    outcome = await each_house.alert(symbol="BTCUSDT", action="reduce", size={"pct_position": 50})
    assert outcome["status"] == "done", outcome
    assert await each_house.held() == ("long", "0.01")
    assert await resting_stops(each_house) == [("long", moved)]


async def test_the_same_alerts_reverse_in_one_way_mode(each_house: House) -> None:
    await each_house.alert(**LONG)
    outcome = await each_house.alert(**LONG | {"action": "sell", "size": {"base": "0.02"}})
    assert outcome["status"] == "done", outcome
    position = await each_house.position()
    assert position is not None
    assert (position.side, position.qty, position.epoch) == ("short", D("0.02"), 2)
    assert await each_house.held() == ("short", "0.02")
    assert await resting_stops(each_house) == [("short", position.native_stop)]
    [first] = await each_house.rows("SELECT close_reason FROM positions WHERE epoch = 1")
    assert first["close_reason"] == "reversed"


async def test_in_hedge_mode_they_are_held_side_by_side(hedge_house: House) -> None:
    house = hedge_house
    await house.alert(**LONG)
    outcome = await house.alert(**LONG | {"action": "sell", "size": {"base": "0.02"}})
    assert outcome["status"] == "done", outcome
    assert await house.held(side="long") == ("long", "0.01")
    assert await house.held(side="short") == ("short", "0.02")
    long, short = await house.position(side="long"), await house.position(side="short")
    assert long is not None
    assert short is not None
    assert (long.hedge, short.hedge) == (True, True)
    assert sorted(await resting_stops(house)) == [("long", long.native_stop), ("short", short.native_stop)]
    armed = await house.rows("SELECT position_id, price FROM levels WHERE status = 'armed' ORDER BY price")
    assert [(x["position_id"], x["price"]) for x in armed] == [(long.id, D("59400.0")), (short.id, D("60600.0"))]

    outcome = await house.alert(symbol="BTCUSDT", action="close_long")
    assert outcome["status"] == "done", outcome
    assert await house.held(side="long") == ("flat", "0")
    assert await house.position(side="short") == short, "closing one leaves the other untouched"
    assert await resting_stops(house) == [("short", short.native_stop)]

    outcome = await house.alert(symbol="BTCUSDT", target="flat")
    assert outcome["status"] == "done", outcome
    assert await house.held(side="short") == ("flat", "0")
    assert await resting_stops(house) == []


async def test_a_target_in_hedge_mode_turns_the_strategys_position_round(hedge_house: House) -> None:
    house = hedge_house
    await house.alert(**LONG)
    outcome = await house.alert(symbol="BTCUSDT", target="short", size={"base": "0.02"}, stop_loss={"pct": 1})
    assert outcome["status"] == "done", outcome
    assert await house.held(side="long") == ("flat", "0")
    assert await house.held(side="short") == ("short", "0.02")


async def test_an_order_above_the_largest_market_order_leaves_in_several(each_house: House) -> None:
    await each_house._control("POST", "instruments", {"symbol": "BTCUSDT", "max_market_qty": "0.1"})
    outcome = await each_house.alert(**LONG | {"size": {"base": "0.25"}})
    assert outcome["status"] == "done", outcome
    assert await each_house.held() == ("long", "0.25")
    opened = await each_house.rows("SELECT qty, client_order_id FROM orders WHERE NOT reduce_only ORDER BY attempt")
    assert [row["qty"] for row in opened] == [D("0.083"), D("0.083"), D("0.084")]
    assert len({row["client_order_id"] for row in opened}) == 3
    outcome = await each_house.alert(symbol="BTCUSDT", action="close")
    assert outcome["status"] == "done", outcome
    assert await each_house.held() == ("flat", "0")


async def test_what_the_venue_says_of_leverage_is_made_what_was_asked(each_house: House) -> None:
    outcome = await each_house.alert(**LONG, leverage=7)
    assert outcome["status"] == "done", outcome
    connected = await each_house.resources.venues.of(each_house.account_id)
    assert (await connected.venue.standing("BTCUSDT")).leverage == D(7)


async def test_a_close_that_the_exchange_cuts_to_what_is_held_comes_to_its_end(each_house: House) -> None:
    """A hand took part of the position a moment ago; our close still asks for all of it."""
    await each_house.alert(**LONG)
    await each_house.by_hand("Sell", "0.004")
    outcome = await each_house.alert(symbol="BTCUSDT", action="close")
    assert outcome["status"] == "done", outcome
    assert await each_house.held() == ("flat", "0")
    assert (await each_house.last_position()).status == "closed"
