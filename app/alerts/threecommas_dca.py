"""3Commas DCA Bot: the messages that its bots show for their alerts (as in public repositories; no vendor text read).

Side, size and symbol are the bot's own, so they come from the strategy's defaults; a body may name its `pair`.
"""

from collections.abc import Mapping

from app.alerts import part
from app.alerts.aim import Aim, Understood
from app.alerts.part import Part
from app.domain.signal import Action, Defaults, SizeUnit

KNOWS = frozenset("action message_type bot_id email_token pair".split())
MARKS = frozenset({"message_type"})


def matches(obj: Mapping[str, object]) -> bool:
    return "message_type" in obj and ("bot_id" in obj or "email_token" in obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    body.must("message_type", ("bot",))
    body.refuse(("delay_seconds",), "alerts are carried out at once; write 0")
    actions = ("start_deal", "close_at_market_price", "add_funds_in_quote")
    later = ("stop_bot", "start_bot", "cancel", "start_bot_and_start_deal", "close_at_market_price_all")
    action = body.word("action", (*actions, *later)) or "start_deal"
    if action in later:
        raise body.later("action", "only start, close_at_market_price and add_funds_in_quote are read")
    symbol = body.symbol("pair", defaults)
    if action == "close_at_market_price":
        return part.one(part.order(part.closing(defaults.side), symbol))
    if action == "add_funds_in_quote":
        size = body.size("volume", SizeUnit.QUOTE)
        if size is None:
            raise body.missing("volume", "write how much to add, in quote currency")
        return part.one(part.order(Aim(action=Action.ADD, size=size), symbol))
    return part.one(part.order(part.opening(part.side_of(body, defaults), None), symbol))
