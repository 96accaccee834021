"""The road of every call of this face, whichever way it came: limits, key, signature, rights, and the endpoint."""

from typing import Any, Protocol

from simulator.binance import account, algo, market_data, settings, trading
from simulator.binance.context import Context
from simulator.binance.endpoint import Access, Endpoint
from simulator.binance.errors import ApiError, error
from simulator.binance.limits import ban
from simulator.binance.params import Params
from simulator.faults import FaultKind
from simulator.keys import ApiKey
from simulator.model import ZERO, Account

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    **market_data.ENDPOINTS,
    **account.ENDPOINTS,
    **settings.ENDPOINTS,
    **trading.ENDPOINTS,
    **algo.ENDPOINTS,
}

_NOBODY = Account(name="", balance=ZERO, deposited=ZERO)  # for endpoints that look at none


class Caller(Protocol):
    """Whoever calls, and how that is shown on this way."""

    @property
    def address(self) -> str: ...

    @property
    def names(self) -> frozenset[str]:
        """Parameters that every call may have on this way."""

    def key(self) -> tuple[str, ApiKey]: ...

    def check_signed(self, params: Params, key: ApiKey) -> None: ...


def carry_out(context: Context, call: tuple[str, str], params: Params, caller: Caller, usage: dict[str, str]) -> Any:
    """What the endpoint answers; `usage` is filled with what REST tells in its headers."""
    exchange, endpoint = context.exchange, ENDPOINTS.get(call)
    if endpoint is None:
        raise ApiError(-5000, f"Path {call[1]}, Method {call[0]} is invalid", 404)
    weigh(context, call[1], endpoint.weight_of(params.given), params.channel, caller.address, usage)
    names = endpoint.names | caller.names
    if endpoint.access is Access.NONE:
        params.allow(names)
        return endpoint.run(context, _NOBODY, params)
    name, key = caller.key()
    if endpoint.access is Access.SIGNED:
        caller.check_signed(params, key)
    if endpoint.trades and (key.read_only or not key.trade):
        raise error(-2015)
    if endpoint.counts_order:
        context.limits.count_order(name, usage)
    params.allow(names)
    return endpoint.run(context, exchange.engine.accounts[name], params)


def weigh(context: Context, path: str, weight: int, channel: str, address: str, usage: dict[str, str]) -> None:
    faults, now_s = context.exchange.faults, context.exchange.now_s()
    limited = faults.find(FaultKind.RATE_LIMIT, now_s, path=path, channel=channel)
    forced = limited is not None and isinstance(limited.times, int)
    if forced:
        faults.take(FaultKind.RATE_LIMIT, now_s, path=path, channel=channel)
    context.limits.weigh(address, weight, usage, enforced=limited is not None, forced=forced)


def ban_by_fault(context: Context) -> ApiError | None:
    """A ban of the address: who asks meanwhile makes it last longer."""
    faults, now_s = context.exchange.faults, context.exchange.now_s()
    if not faults.extend(FaultKind.IP_BAN, now_s):
        return None
    fault = faults.find(FaultKind.IP_BAN, now_s)
    return ban(fault.seconds or 120 if fault is not None else 120, context.now_ms())
