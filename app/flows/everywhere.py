"""A `close_all` becomes one close for each symbol that its strategy holds or has work for."""

import msgspec

from app.alerts.codes import AlertCode
from app.alerts.recognise import Reading
from app.domain.signal import everywhere
from app.errors import InvalidInput
from app.resources import Resources
from app.store import books
from app.store.db import store_errors


async def spread(resources: Resources, strategy_id: str, reading: Reading) -> Reading:
    """The reading with an order for each symbol. What is accepted afterwards is not closed any more.

    Raises InvalidInput where there is nothing to close and the alert names no symbol either, StoreUnavailable.
    """
    if not any(signal.everywhere for signal in reading.signals):
        return reading
    with store_errors():
        symbols = await books.symbols_of(resources.pool, strategy_id)
    signals = everywhere(reading.signals, symbols)
    if not signals:
        raise InvalidInput(
            AlertCode.NOTHING_HELD,
            "The strategy holds nothing and has no order on its way, so there is nothing to close.",
            "action",
        )
    return msgspec.structs.replace(reading, signals=signals)
