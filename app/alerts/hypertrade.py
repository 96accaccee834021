"""hypertrade (davassi): docs/tradingview-webhook.md of its repository. A TradingView strategy in four objects.

The state after the order decides. `nonce` is the sender's key of the firing. Theirs trades `currency.base`; here the
pair must agree with the ticker.
"""

from collections.abc import Mapping

from app.alerts import symbols, tradingview
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults
from app.errors import InvalidInput

KNOWS = frozenset("general currency order market".split())
MARKS = frozenset({"general"})


def matches(obj: Mapping[str, object]) -> bool:
    return all(isinstance(obj.get(name), dict) for name in ("general", "order", "market"))


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    general = body.part("general", AlertCode.BAD_SYMBOL) or Part({}, "general.")
    pair = body.part("currency", AlertCode.BAD_SYMBOL) or Part({}, "currency.")
    order = body.part("order", AlertCode.BAD_ACTION) or Part({}, "order.")
    market = body.part("market", AlertCode.BAD_TARGET) or Part({}, "market.")
    symbol = general.symbol("ticker", defaults)
    base, quote = (pair.text(name, AlertCode.BAD_SYMBOL) for name in ("base", "quote"))
    if base is not None and quote is not None and symbols.normalise_pair(base, quote, "currency.quote") != symbol:
        raise InvalidInput(AlertCode.CONTRADICTION, "currency names another instrument than ticker.", "currency.base")
    return tradingview.read_as(
        {
            "symbol": ("general.ticker", symbol),
            "action": ("order.action", order.value("action")),
            "contracts": ("order.contracts", order.value("contracts")),
            "price": ("order.price", order.obj.get("price")),
            "order_id": ("order.id", order.value("id")),
            "alert_message": ("order.alert_message", order.value("alert_message")),
            "market_position": ("market.position", market.value("position")),
            "market_position_size": ("market.position_size", market.value("position_size")),
            "prev_market_position": ("market.previous_position", market.value("previous_position")),
            "prev_market_position_size": ("market.previous_position_size", market.value("previous_position_size")),
            "leverage": ("general.leverage", general.value("leverage")),
            "timenow": ("general.timenow", general.value("timenow")),
            "id": ("general.nonce", general.value("nonce")),
        },
        defaults,
    )
