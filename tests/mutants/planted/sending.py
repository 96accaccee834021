"""Bugs between an adapter and its exchange: an order sent on both roads, or trusted where nothing is known."""

from tests.mutants.planted.bug import Bug

SENDING = (
    Bug(
        name="an order that the socket lost goes over REST",
        file="app/venues/bybit/venue.py",
        old="                envelope = await self._calls.outcome(written, order.symbol)\n",
        new="""                try:
                    envelope = await self._calls.outcome(written, order.symbol)
                except NoAnswer:
                    envelope = await self._calls.place(ready.urgency, _params(order), signed_ms=milliseconds(signed_at))
""",
        loses="the order may have arrived: it is doubled",
        tests="tests/venues/test_bybit_entry.py -k 'cut_with_many or cannot_be_matched'",
    ),
    Bug(
        name="an order that Binance's socket lost goes over REST",
        file="app/venues/binance/venue.py",
        old="            return await self.entry.outcome(written)\n",
        new="""            try:
                return await self.entry.outcome(written)
            except NoAnswer:
                pass
""",
        loses="the order may have arrived, and Binance takes the id of one that has ended again",
        tests="tests/venues/test_binance_entry.py -k 'cut_with_many or cannot_be_matched'",
    ),
    Bug(
        name="what the socket lost counts as not sent",
        file="app/venues/entry.py",
        old='future.set_exception(Dropped(f"the order',
        new='from app.venues.failures import NotSent\n                future.set_exception(NotSent(f"the order',
        loses="an opening that arrived is sent once more",
        tests="tests/venues/test_bybit_entry.py -k cut_with_many",
    ),
    Bug(
        name="orders are written before the key was taken",
        file="app/venues/bybit/entry.py",
        old="        self._deadline = asyncio.get_running_loop().call_later(",
        new="        self._rise()\n        self._deadline = asyncio.get_running_loop().call_later(",
        loses="orders are refused that REST would have taken",
        tests="tests/venues/test_bybit_entry.py -k 'without_the_socket or refused_key'",
    ),
    Bug(
        name="an order over the socket is stamped when it leaves",
        file="app/venues/bybit/entry.py",
        old="        at_ms = signed_ms + self._clock.offset_ms\n",
        new="        at_ms = self._clock.now_ms()\n",
        loses="an opening that was given up meanwhile is taken",
        tests="tests/venues/test_bybit_entry.py -k 'instant_that_was_committed or arrives_late'",
    ),
    Bug(
        name="any answer of the socket is the waited one",
        file="app/venues/entry.py",
        old="        _, future = self._in_flight.pop(request_id, (0.0, None))\n",
        new="        _, future = self._in_flight.popitem()[1] if self._in_flight else (0.0, None)\n",
        loses="one order's refusal is told of another one, which was filled",
        tests="tests/venues/test_bybit_entry.py -k 'cannot_be_matched or in_any_order'",
    ),
    Bug(
        name="a close that left from the tick is sent again",
        file="app/flows/orders.py",
        old="await (connected.venue.place(order) if placing is None else placing())",
        new="await connected.venue.place(order)",
        loses="where an ended order's id may be used again, a take-profit closes its part twice",
        tests="tests/workers/test_fires.py -k from_the_tick",
    ),
    Bug(
        name="what a close falls back on is as old as its level",
        file="app/venues/binance/venue.py",
        old="partial(self._outcome, msgspec.structs.replace(prepared.order, signed_at=instant(signed_ms)), written)",
        new="partial(self._outcome, prepared.order, written)",
        loses="it is refused as too old, and nothing is closed",
        tests="tests/venues/test_binance_entry.py -k carries_the_instant_of_the_tick",
    ),
)
