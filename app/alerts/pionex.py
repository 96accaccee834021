"""Pionex signal bot, as in public repositories: a TradingView strategy with the signed size after the order."""

from collections.abc import Mapping

from app.alerts import tradingview
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults

KNOWS = frozenset("data signal_type symbol".split())
MARKS = frozenset({"signal_type"})


def matches(obj: Mapping[str, object]) -> bool:
    return "signal_type" in obj and isinstance(obj.get("data"), dict)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    data = body.part("data", AlertCode.BAD_ACTION) or Part({}, "data.")
    return tradingview.read_as(
        {
            "symbol": ("symbol", body.symbol("symbol", defaults)),
            "action": ("data.action", data.value("action")),
            "contracts": ("data.contracts", data.value("contracts")),
            "position_size": ("data.position_size", data.value("position_size")),
            "price": ("price", body.obj.get("price")),
            "timestamp": ("time", body.value("time")),
        },
        defaults,
    )
