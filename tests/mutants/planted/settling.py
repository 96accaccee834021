"""Bugs in the counting of fills."""

from tests.mutants.planted.bug import Bug

SETTLING = (
    Bug(
        name="a fill is counted twice",
        file="app/store/orders.py",
        old='    if status != "INSERT 0 1":\n        return False\n',
        new="",
        loses="the position here is larger than the one there, and so is its close",
        tests="tests/store/test_settle.py -k 'any_number_of_times or duplicate'",
    ),
    Bug(
        name="two accounts with one key count each other's fills",
        file="app/flows/settle.py",
        old="            if order is not None and order.account_id != account_id:\n                order = None",
        new="            if order is not None and order.account_id is None:\n                order = None",
        loses="one fill becomes two positions, and two closes",
        tests="tests/store/test_settle.py -k another_accounts_order",
    ),
    Bug(
        name="a late fill ends the next position",
        file="app/flows/settle.py",
        old="    if fill.filled_at < position.opened_at:\n        return False\n",
        new="",
        loses="what is held is believed to be closed, and its levels are disarmed",
        tests="tests/store/test_settle.py -k late_closing_fill",
    ),
    Bug(
        name="what a hand adds is counted as ours",
        file="app/flows/settle.py",
        old="    return fill.side is position.side.closes_with or (intent is not None and intent.opens)\n",
        new="    return True\n",
        loses="somebody else's position is closed with ours",
        tests="tests/store/test_settle.py -k hand_adds",
    ),
    Bug(
        name="a fill goes to the other side of the hedge",
        file="app/flows/settle.py",
        old="return next((position for position in held if position.side is side), None)",
        new="return next((position for position in held if position.side is not side), None)",
        loses="a close of the long ends the short here, whose stop is then gone",
        tests="tests/store/test_settle.py -k 'hedge or names'",
    ),
    Bug(
        name="a level that has fired is armed once more",
        file="app/flows/settle.py",
        old="        await levels.trigger(connection, intent.cause_id, None, None)",
        new="        assert intent.cause_id",
        loses="a take-profit closes its part twice",
        tests="tests/store/test_settle.py -k marks_it",
    ),
    Bug(
        name="levels are armed in a transaction of their own",
        file="app/flows/settle.py",
        old="        for position in held.values():\n            if position != before.get(position.id):\n",
        new="    async with transaction(resources.pool) as connection:\n"
        "        for position in held.values():\n            if position != before.get(position.id):\n",
        loses="a crash in between leaves a position without a level",
        tests="tests/flows/test_order_of_steps.py -k one_transaction",
    ),
    Bug(
        name="levels keep their quantity when the position changes",
        file="app/flows/settle.py",
        old="return known.qty == plan.qty and _same_trigger(known, plan)",
        new="return _same_trigger(known, plan)",
        loses="what was added is not closed by the stop",
        tests="tests/store/test_settle.py -k 'quantity_changes'",
    ),
    Bug(
        name="an ended position keeps its levels",
        file="app/flows/settle.py",
        old="    await levels.disarm(connection, position.id)\n"
        "    await orders.disarm_of_position(connection, position.id)\n",
        new="",
        loses="the close of a position that is gone meets the next one",
        tests="tests/store/test_settle.py -k 'ends_the_position or nothing_armed' tests/flows/test_life.py",
    ),
    Bug(
        name="all positions of a book have one epoch",
        file="app/store/books.py",
        old="UPDATE books SET epoch = epoch + 1 WHERE",
        new="UPDATE books SET epoch = greatest(epoch, 1) WHERE",
        loses="a late close can't be told from one of the position that is held now",
        tests="tests/store/test_settle.py -k next_epoch",
    ),
    Bug(
        name="only the first fill of an opening is counted",
        file="app/flows/orders.py",
        old="            await settle(resources, order.account_id, instrument, listed)\n",
        new="            await settle(resources, order.account_id, instrument, listed[:1])\n",
        loses="a part of what is held has no stop and is never closed",
        tests="tests/flows/test_order_of_steps.py -k several_fills",
    ),
    Bug(
        name="an order is finished before its fills are counted",
        file="app/flows/orders.py",
        old="if report.status in FINAL and filled >= said:",
        new="if report.status in FINAL:",
        loses="what was filled is believed to be nothing: held by nobody",
        tests="tests/flows/test_interrupted.py -k 'called_filled_without or listed_late'",
    ),
    Bug(
        name="fills that could not be stored are forgotten",
        file="workers/private.py",
        old='                    self.on_change("")  # they are asked for again\n',
        new="                    pass\n",
        loses="the position here stays as it was until somebody looks",
        tests="tests/workers/test_private.py -k cannot_be_settled",
    ),
    Bug(
        name="a failed read means flat",
        file="app/flows/reconcile.py",
        old="for holding in await connected.venue.holdings()}\n",
        new="for holding in await _listed(connected)}\n\n"
        "async def _listed(connected: Connected) -> list[Holding]:\n"
        "    try:\n        return await connected.venue.holdings()\n"
        "    except (Transient, OutcomeUnknown):\n        return []\n",
        loses="a minute of maintenance ends every position here, whose stops nobody holds from then on",
        tests="tests/flows/test_order_of_steps.py -k failed_read",
    ),
    Bug(
        name="a lag of the exchange's lists is a close from outside",
        file="app/flows/reconcile.py",
        old="        if await orders.in_flight(resources.pool, account_id, position.symbol):\n            return",
        new="        if await orders.in_flight(resources.pool, account_id, ''):\n            return",
        loses="a position whose close is on its way is ended with the wrong reason, and its fills belong to nobody",
        tests="tests/flows/test_unknown.py -k executions_that_lag",
    ),
    Bug(
        name="a difference counts at first sight",
        file="app/flows/reconcile.py",
        old="    if not visit.memory.lasted(seen, difference, resources.now()):\n        return\n",
        new="",
        loses="what was filled a moment ago and is not listed yet is closed from outside",
        tests="tests/flows/test_order_of_steps.py -k does_not_list_for_a_moment",
    ),
)
