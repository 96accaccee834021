"""Things that go wrong on purpose. A fault is set by the control API and lives until used up, timed out or cleared."""

import enum
import re
from typing import Any

import msgspec


class FaultKind(enum.StrEnum):
    DELAY = "delay"  # wait `ms` before handling
    DELAY_ANSWER = "delay_answer"  # execute, wait `ms`, answer; sockets tell first
    DROP_REQUEST = "drop_request"  # cut the connection, nothing executed
    DROP_ANSWER = "drop_answer"  # execute, then cut the connection
    HTTP_STATUS = "http_status"  # `status` with a text body; not executed, unless `after`
    RET_CODE = "ret_code"  # business error `code`, `msg`; not executed, unless `after`
    REJECT_ASYNC = "reject_async"  # order accepted, then Rejected
    REJECT_TRIGGER = "reject_trigger"  # a conditional order is refused when its price was crossed
    PARTIAL_FILL = "partial_fill"  # `fraction` of a taker's qty is there
    LATE_VISIBLE = "late_visible"  # queries do not see what is younger than `ms`
    SILENT_SOCKET = "silent_socket"  # frames of `channel` stop, the link stays
    RESNAPSHOT = "resnapshot"  # the next ticker frame is a snapshot, as after a restart of the server
    CUT_SOCKET = "cut_socket"  # links of `channel` are cut; with `seconds` or times null new ones are refused too
    REORDER = "reorder"  # the private frames of one moment go out in reverse
    DUPLICATE_EVENTS = "duplicate_events"  # each private frame goes out twice
    SPLIT_FILL = "split_fill"  # a taker is filled in two executions
    FORGET_CLOSED = "forget_closed"  # the memory of orders that ended lately is empty, as after a restart
    IP_BAN = "ip_ban"  # every request is answered with 403 for `seconds`; asking meanwhile starts the span anew
    RATE_LIMIT = "rate_limit"  # per-second limits are enforced
    CLOCK_SKEW = "clock_skew"  # the exchange's clock is `ms` ahead
    MAINTENANCE = "maintenance"  # every request is answered with 503


# The ways in and out that a fault may be narrowed to: sockets for market data, for what happens to an account, for
# orders; and REST calls.
PUBLIC, PRIVATE, TRADE, REST = CHANNELS = ("public", "private", "trade", "rest")

# What `times` means when it is not given: these work once, the others until cleared.
ONE_SHOT = frozenset(
    {
        FaultKind.DELAY,
        FaultKind.DELAY_ANSWER,
        FaultKind.DROP_REQUEST,
        FaultKind.DROP_ANSWER,
        FaultKind.HTTP_STATUS,
        FaultKind.RET_CODE,
        FaultKind.REJECT_ASYNC,
        FaultKind.REJECT_TRIGGER,
        FaultKind.PARTIAL_FILL,
        FaultKind.SPLIT_FILL,
        FaultKind.RESNAPSHOT,
        FaultKind.CUT_SOCKET,
    }
)


class FaultOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /control/faults."""

    fault: FaultKind
    ms: int | None = None
    status: int | None = None
    after: bool = False
    code: int | None = None
    msg: str = ""
    fraction: str | None = None
    channel: str | None = None  # one of CHANNELS; None: all
    symbol: str | None = None
    path: str | None = None
    times: int | msgspec.UnsetType | None = msgspec.UNSET
    seconds: float | None = None

    def __post_init__(self) -> None:
        needs = {
            FaultKind.DELAY: "ms",
            FaultKind.DELAY_ANSWER: "ms",
            FaultKind.LATE_VISIBLE: "ms",
            FaultKind.CLOCK_SKEW: "ms",
            FaultKind.HTTP_STATUS: "status",
            FaultKind.RET_CODE: "code",
            FaultKind.PARTIAL_FILL: "fraction",
            FaultKind.IP_BAN: "seconds",
        }
        name = needs.get(self.fault)
        if name is not None and getattr(self, name) is None:
            raise ValueError(f"fault {self.fault} needs {name}")
        if self.fraction is not None and not re.fullmatch(r"0?\.\d+|0|1", self.fraction):
            raise ValueError("fraction is a number from 0 to 1")
        if self.channel not in (None, *CHANNELS):
            raise ValueError(f"channel is one of {', '.join(CHANNELS)}")


class Fault(msgspec.Struct):
    """A fault at work. `until_s` is on the monotonic clock."""

    id: int
    order: FaultOrder
    times_left: int | None
    until_s: float | None


class Faults:
    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._next_id = 1

    def add(self, order: FaultOrder, now_s: float) -> Fault:
        if order.times is msgspec.UNSET:
            times = 1 if order.fault in ONE_SHOT and order.seconds is None else None
        else:
            times = order.times
        until = None if order.seconds is None else now_s + order.seconds
        fault = Fault(self._next_id, order, times, until)
        self._next_id += 1
        self._faults[fault.id] = fault
        return fault

    def clear(self, fault_id: int | None = None) -> bool:
        """Remove one (False if there is no such) or all."""
        if fault_id is not None:
            return self._faults.pop(fault_id, None) is not None
        self._faults.clear()
        return True

    def rows(self, now_s: float) -> list[dict[str, Any]]:
        self._forget_old(now_s)
        return [
            {
                "id": f.id,
                "times_left": f.times_left,
                "seconds_left": None if f.until_s is None else round(f.until_s - now_s, 3),
                **{k: v for k, v in msgspec.structs.asdict(f.order).items() if k not in ("times", "seconds")},
            }
            for f in self._faults.values()
        ]

    def find(
        self, kind: FaultKind, now_s: float, *, path: str = "", symbol: str = "", channel: str = ""
    ) -> FaultOrder | None:
        """The first fault of this kind that fits, without using it up."""
        fault = self._match(kind, now_s, path, symbol, channel)
        return fault.order if fault else None

    def take(
        self, kind: FaultKind, now_s: float, *, path: str = "", symbol: str = "", channel: str = ""
    ) -> FaultOrder | None:
        """As `find`, and one of its times is gone."""
        fault = self._match(kind, now_s, path, symbol, channel)
        if fault is None:
            return None
        if fault.times_left is not None:
            fault.times_left -= 1
            if fault.times_left <= 0:
                del self._faults[fault.id]
        return fault.order

    def extend(self, kind: FaultKind, now_s: float) -> bool:
        """Whether there is a fault of this kind; its span begins anew."""
        fault = self._match(kind, now_s, "", "", "")
        if fault is not None and fault.order.seconds is not None:
            fault.until_s = now_s + fault.order.seconds
        return fault is not None

    def _match(self, kind: FaultKind, now_s: float, path: str, symbol: str, channel: str) -> Fault | None:
        if not self._faults:
            return None  # the usual case, on the path of every tick
        self._forget_old(now_s)
        for fault in self._faults.values():
            order = fault.order
            if (
                order.fault is kind
                and order.path in (None, path)
                and order.symbol in (None, symbol)
                and order.channel in (None, channel)
            ):
                return fault
        return None

    def _forget_old(self, now_s: float) -> None:
        old = [f.id for f in self._faults.values() if f.until_s is not None and f.until_s <= now_s]
        for fault_id in old:
            del self._faults[fault_id]
