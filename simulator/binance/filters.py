"""What an order must satisfy before the engine sees it: precision, the symbol's filters, mode, leverage bracket.

https://developers.binance.com/docs/derivatives/usds-margined-futures/common-definition#filters
"""

from decimal import Decimal

from simulator.binance import brackets
from simulator.binance.context import Context
from simulator.binance.errors import error
from simulator.binance.market_rows import BAND, MAX_NUM_ORDERS, price_precision, qty_precision
from simulator.binance.names import is_algo
from simulator.binance.params import Params
from simulator.instruments import Instrument
from simulator.market import Market
from simulator.model import Account, NewOrder, PositionSide, Side
from simulator.numbers import decimals, is_multiple, text

MAX_ALGO_ORDERS = 200  # over all symbols

_SIDES = {"BOTH": PositionSide.BOTH, "LONG": PositionSide.LONG, "SHORT": PositionSide.SHORT}


def check_trading(market: Market, *, reduces: bool) -> None:
    """A contract that is about to be delivered can only be closed."""
    match market.instrument.status:
        case "Trading":
            return
        case "Delivering":
            if not reduces:
                raise error(-4140)
        case "Closed":
            raise error(-4141)
        case _:
            raise error(-4108)


def check_price(i: Instrument, price: Decimal) -> None:
    if decimals(price) > price_precision(i):
        raise error(-1111)
    if price <= 0:
        raise error(-4001)
    if price < i.min_price:
        raise error(-4013)
    if price > i.highest_price:
        raise error(-4002)
    if not is_multiple(price, i.tick_size):
        raise error(-4014)


def check_band(market: Market, side: Side, price: Decimal) -> None:
    """PERCENT_PRICE of a limit order, around the mark."""
    i = market.instrument
    high, low = market.mark * (1 + BAND), market.mark * (1 - BAND)
    if side is Side.BUY and price > high:
        raise error(-4016, text(high.quantize(i.tick_size)))
    if side is Side.SELL and price < low:
        raise error(-4024, text(low.quantize(i.tick_size)))


def check_market_band(market: Market, side: Side) -> None:
    """A market order is refused when the best price is outside."""
    far = market.last > market.mark * (1 + BAND) if side is Side.BUY else market.last < market.mark * (1 - BAND)
    if far:
        raise error(-4131)


def check_qty(i: Instrument, qty: Decimal, *, at_market: bool) -> None:
    """LOT_SIZE, or MARKET_LOT_SIZE, whose maximum is far smaller."""
    if qty <= 0:
        raise error(-4003)
    if decimals(qty) > qty_precision(i):
        raise error(-1111)
    if qty < i.min_qty:
        raise error(-4004)
    if qty > (i.max_market_qty if at_market else i.max_qty):
        raise error(-4005)
    if not is_multiple(qty, i.qty_step):
        raise error(-4023)


def check_notional(market: Market, qty: Decimal, price: Decimal | None) -> None:
    """Not of reduce-only orders. A market order is judged at the mark."""
    least = market.instrument.min_notional
    if qty * (price or market.mark) < least:
        raise error(-4164, text(least))


def check_bracket(context: Context, account: Account, market: Market, new: NewOrder) -> None:
    """What would be held after this order must fit the leverage."""
    engine, i = context.engine, market.instrument
    position = engine.position(account, new.symbol, new.position_side)
    after = abs(position.qty + new.side.sign * new.qty) * (new.price or market.last)
    grows = after > abs(position.qty) * market.last
    if grows and after > brackets.max_notional(i, engine.leverage(account, new.symbol, new.position_side)):
        raise error(-2027)


def check_counts(context: Context, account: Account, symbol: str, *, algo: bool) -> None:
    if algo:
        if sum(is_algo(o) and not o.fired_seq for o in context.engine.open_orders(account)) >= MAX_ALGO_ORDERS:
            raise error(-4045)
    elif sum(not is_algo(o) for o in context.engine.open_orders(account, symbol)) >= MAX_NUM_ORDERS:
        raise error(-2025)


def position_side(account: Account, params: Params) -> PositionSide:
    """That of the request, which must fit the account's mode."""
    word = params.choice("positionSide", frozenset(_SIDES), -4060, "BOTH")
    side = _SIDES[word]
    if (side is PositionSide.BOTH) == account.hedge:
        raise error(-4061)
    return side


def reduce_only(account: Account, params: Params) -> bool:
    if account.hedge and "reduceOnly" in params:
        raise error(-1106, "reduceonly")
    return params.boolean("reduceOnly")


def closes(side: Side, position: PositionSide) -> bool:
    """Whether an order of hedge mode takes off its own leg."""
    return position.opens_with is not None and side is not position.opens_with
