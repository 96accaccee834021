"""An exchange's clock: ours, moved by the difference that was last proven."""

import time

_ROUND_TRIP_MAX_MS = 1000


class Clock:
    def __init__(self) -> None:
        self.offset_ms = 0  # the exchange's clock minus ours

    def now_ms(self) -> int:
        return int(time.time() * 1000) + self.offset_ms

    def sample(self, sent_ms: int, server_ms: int, received_ms: int) -> None:
        """What is believed is wrong only if it is off by more than half of the round trip; a slow one proves nothing.

        So a sample of a slow moment never replaces that of a quick one, unless the clocks really moved.
        """
        round_trip = received_ms - sent_ms
        if not 0 <= round_trip <= _ROUND_TRIP_MAX_MS:
            return
        offset = server_ms - (sent_ms + received_ms) // 2
        if abs(offset - self.offset_ms) > round_trip // 2 + 1:
            self.offset_ms = offset
