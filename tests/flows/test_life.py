"""The life of a position through the real flows, stores and adapter against the simulator."""

from decimal import Decimal

from tests.support.house import House

D = Decimal
LONG = {"symbol": "BYBIT:BTCUSDT.P", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}


async def test_an_alert_opens_a_position_that_is_protected(house: House) -> None:
    outcome = await house.alert(**LONG, take_profit=[{"pct": 1, "fraction": 0.5}, {"price": "61000", "fraction": 0.5}])

    assert outcome["status"] == "done", outcome
    assert outcome["code"] == "executed"
    position = await house.position()
    assert position is not None
    assert (position.side, position.qty, position.entry_price) == ("long", D("0.01"), D("60000"))
    assert position.status == "open"
    assert await house.held() == ("long", "0.01")
    armed = await house.rows("SELECT kind, rung, price, qty, status FROM levels ORDER BY kind, rung")
    assert [(x["kind"], x["price"], x["qty"], x["status"]) for x in armed] == [
        ("stop_loss", D("59400.0"), D("0.01"), "armed"),
        ("take_profit", D("60600.0"), D("0.005"), "armed"),
        ("take_profit", D("61000.0"), D("0.005"), "armed"),
    ]
    ledger = await house.ledger()
    [held] = [p for p in ledger["positions"] if p["side"] == "long"]
    # The native stop rests further out than the watcher's: it must never be first while the watcher lives.
    assert position.native_stop == D(held["stop_loss"]) < D("59400")
    [request] = await house.sent()
    assert request["body"]["stopLoss"] == held["stop_loss"], "the stop rides on the entry: never a moment without"


async def test_every_order_was_committed_with_its_client_id_before_it_was_sent(house: House) -> None:
    await house.alert(**LONG)
    [request] = await house.sent()
    [order] = await house.rows("SELECT * FROM orders WHERE client_order_id = $1", request["body"]["orderLinkId"])
    assert order["created_at"].timestamp() * 1e9 <= request["received_at_ns"]
    assert order["status"] == "filled"
    assert order["filled_qty"] == D("0.01")


async def test_a_close_ends_it_with_its_result(house: House) -> None:
    await house.alert(**LONG)
    await house.price("60600")
    outcome = await house.alert(symbol="BTCUSDT", action="close")
    assert outcome["status"] == "done", outcome
    position = await house.last_position()
    assert (position.status, position.qty, position.close_reason) == ("closed", D(0), "signal")
    assert position.realized_pnl == D("6.00")
    fee = (D("600") + D("606")) * D("0.00055")
    assert position.fees == fee
    assert await house.held() == ("flat", "0")
    assert await house.rows("SELECT 1 FROM levels WHERE status = 'armed'") == []
    assert await house.rows("SELECT 1 FROM orders WHERE status = 'armed'") == []


async def test_a_reversal_is_a_close_proven_flat_and_an_open(house: House) -> None:
    await house.alert(**LONG)
    outcome = await house.alert(
        symbol="BTCUSDT", target="short", size={"base": "0.02"}, stop_loss={"pct": 1}, previous="long"
    )
    assert outcome["status"] == "done", outcome
    position = await house.position()
    assert position is not None
    assert (position.side, position.qty, position.epoch) == ("short", D("0.02"), 2)
    requests = [(r["body"]["side"], r["body"]["qty"], r["body"]["reduceOnly"]) for r in await house.sent()]
    assert requests == [("Buy", "0.01", False), ("Sell", "0.01", True), ("Sell", "0.02", False)]
    [first] = await house.rows("SELECT close_reason FROM positions WHERE epoch = 1")
    assert first["close_reason"] == "reversed"


async def test_add_and_reduce_keep_the_levels_in_step(house: House) -> None:
    await house.alert(**LONG)
    await house.alert(symbol="BTCUSDT", action="add", size={"base": "0.01"})
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.02")
    outcome = await house.alert(symbol="BTCUSDT", action="reduce", size={"pct_position": 25})
    assert outcome["status"] == "done", outcome
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.015")
    [stop] = await house.rows("SELECT qty, status FROM levels WHERE kind = 'stop_loss'")
    assert (stop["qty"], stop["status"]) == (D("0.015"), "armed")
    assert await house.held() == ("long", "0.015")


async def test_a_missed_alert_is_told_and_where_the_strategy_wants_it_stops_it(house: House) -> None:
    goal = {"symbol": "BTCUSDT", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
    healed = await house.alert(**goal, target="short", previous="long")
    assert (healed["code"], (await house.held())[0]) == ("executed", "short")
    await house.resources.pool.execute("""UPDATE strategies SET limits = '{"missed_alert": "halt"}'""")
    stopped = await house.alert(**goal, target="long", previous="flat")
    assert (stopped["status"], stopped["code"]) == ("refused", "missed_alert")
    assert await house.held() == ("flat", "0"), "what the chart does not want any more is closed all the same"
    assert (await house.alert(**goal, target="long"))["code"] == "strategy_disabled"
    told = await house.rows("SELECT detail FROM events WHERE kind = 'missed_alert' ORDER BY id")
    assert [row["detail"]["why"].split(",")[0] for row in told] == [
        "the chart was long before this alert", "the chart was flat before this alert",
    ]  # fmt: skip
