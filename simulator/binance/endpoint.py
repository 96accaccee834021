"""What an endpoint is: who may call it, which parameters it knows, and what it costs."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from simulator.binance.context import Context
from simulator.binance.params import Params
from simulator.model import Account

Weight = int | Callable[[dict[str, str]], int]  # from the parameters, where it depends on them

_SIGNED_NAMES = frozenset({"timestamp", "recvWindow", "signature"})


class Access(enum.Enum):
    NONE = enum.auto()
    KEY = enum.auto()  # the header only
    SIGNED = enum.auto()


class Endpoint(NamedTuple):
    run: Callable[[Context, Account, Params], Any]
    access: Access
    names: frozenset[str]
    weight: Weight
    counts_order: bool = False
    trades: bool = False  # needs a key that may trade

    def weight_of(self, given: dict[str, str]) -> int:
        return self.weight if isinstance(self.weight, int) else self.weight(given)


def no_access(run: Callable[[Context, Params], Any], names: str, weight: Weight) -> Endpoint:
    def without_account(context: Context, account: Account, params: Params) -> Any:
        return run(context, params)

    return Endpoint(without_account, Access.NONE, frozenset(names.split()), weight)


def signed(
    run: Callable[[Context, Account, Params], Any],
    names: str,
    weight: Weight,
    *,
    counts_order: bool = False,
    trades: bool = False,
) -> Endpoint:
    return Endpoint(run, Access.SIGNED, frozenset(names.split()) | _SIGNED_NAMES, weight, counts_order, trades)
