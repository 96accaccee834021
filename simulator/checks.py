"""What an order must satisfy before the engine takes it. All comparisons are between Decimals."""

from decimal import Decimal

from simulator.instruments import Instrument
from simulator.market import Market
from simulator.model import (
    ZERO,
    Account,
    NewOrder,
    OrderType,
    Position,
    Protection,
    Reason,
    Refused,
    Side,
    StopKind,
    TriggerBy,
)
from simulator.numbers import is_multiple, text

MAX_ACTIVE_ORDERS = 500  # per symbol, https://bybit-exchange.github.io/docs/v5/order/create-order


def check_price(instrument: Instrument, price: Decimal) -> None:
    if price <= 0 or not is_multiple(price, instrument.tick_size):
        raise Refused(Reason.PRICE_TICK, text(price))
    if not instrument.min_price <= price <= instrument.highest_price:
        bounds = f"{text(instrument.min_price)} and {text(instrument.highest_price)}"
        raise Refused(Reason.PRICE_RANGE, bounds)


def check_qty(instrument: Instrument, qty: Decimal, order_type: OrderType) -> None:
    if qty < instrument.min_qty:
        raise Refused(Reason.QTY_MIN, text(instrument.min_qty))
    if not is_multiple(qty, instrument.qty_step):
        raise Refused(Reason.QTY_STEP, text(qty))
    most = instrument.max_market_qty if order_type is OrderType.MARKET else instrument.max_qty
    if qty > most:
        raise Refused(Reason.QTY_MAX, text(most))


def check_position_side(account: Account, new: NewOrder) -> None:
    if new.position_side not in account.position_sides(new.symbol):
        raise Refused(Reason.POSITION_SIDE)


def check_trigger(market: Market, new: NewOrder) -> None:
    """A conditional order waits for a price on the far side of the market."""
    if new.trigger_price is None:
        return
    check_price(market.instrument, new.trigger_price)
    current = market.reference(new.trigger_by)
    detail = f"trigger_price[{text(new.trigger_price)}] {{}} current[{text(current)}]??{new.trigger_by}"
    if new.trigger_direction == 1 and new.trigger_price <= current:
        raise Refused(Reason.TRIGGER_NOT_ABOVE, detail.format("<="))
    if new.trigger_direction == 2 and new.trigger_price >= current:
        raise Refused(Reason.TRIGGER_NOT_BELOW, detail.format(">="))


def check_limits(market: Market, account: str, new: NewOrder) -> None:
    own = [o for o in market.open.values() if o.account == account]
    if new.trigger_price is not None:
        if sum(o.stop_kind is StopKind.STOP for o in own) >= new.stops_max:
            raise Refused(Reason.TOO_MANY_STOPS)
    elif sum(o.stop_kind is StopKind.NONE for o in own) >= MAX_ACTIVE_ORDERS:
        raise Refused(Reason.TOO_MANY_ORDERS)


def check_attached(market: Market, new: NewOrder) -> None:
    """Stops that ride on an entry; of a limit order they are judged against its own price."""
    if not (new.stop_loss or new.take_profit):
        return
    if new.reduce_only:
        raise Refused(Reason.STOP_ON_REDUCE_ONLY)
    base = new.trigger_price or new.price
    for price, by, kind in (
        (new.stop_loss, new.sl_trigger_by, StopKind.STOP_LOSS),
        (new.take_profit, new.tp_trigger_by, StopKind.TAKE_PROFIT),
    ):
        if price:
            check_stop_side(market, new.side, kind, price, by, base)


def check_protection(market: Market, position: Position, wanted: Protection) -> None:
    side = position.side
    if side is None:
        raise Refused(Reason.ZERO_POSITION)
    for price, by, kind in (
        (wanted.stop_loss, wanted.sl_trigger_by, StopKind.STOP_LOSS),
        (wanted.take_profit, wanted.tp_trigger_by, StopKind.TAKE_PROFIT),
    ):
        if price:
            check_stop_side(market, side, kind, price, by, None)
    for distance in (wanted.trailing, wanted.active_price):
        if distance:
            check_price(market.instrument, distance)


def check_stop_side(
    market: Market, side: Side, kind: StopKind, price: Decimal, by: TriggerBy, base: Decimal | None
) -> None:
    """A stop loss lies on the losing side of the base price, a take profit on the winning side."""
    check_price(market.instrument, price)
    if base is None:
        base = market.reference(by)
    lower = (side is Side.BUY) == (kind is StopKind.STOP_LOSS)
    if price >= base if lower else price <= base:
        word = "lower" if lower else "higher"
        raise Refused(
            Reason.STOP_SIDE,
            f"{kind}:{_scaled(price)} set for {side} position should {word} than base_price:{_scaled(base)}??{by}",
        )


def _scaled(price: Decimal) -> str:
    """The exchange prints prices in such texts times 10,000."""
    return text(price * 10_000)


def opening_qty(position: Position, side: Side, qty: Decimal, *, reduce_only: bool) -> Decimal:
    """The part of an order that would add exposure: the opposite position comes off first."""
    return ZERO if reduce_only else max(ZERO, qty - position.reducible_by(side))


def check_funds(account: Account, available: Decimal, opened: Decimal, price: Decimal, leverage: Decimal) -> None:
    """Initial margin of the opening part plus the taker fee must be there."""
    value = opened * price
    if opened and value / leverage + value * account.taker_fee > available:
        raise Refused(Reason.MARGIN)
