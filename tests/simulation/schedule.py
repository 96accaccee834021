"""What happens in one world, drawn from its seed: who trades what, which alerts come, how the price goes, what breaks.

Each world has only some kinds of faults, each with a rate of its own: a bug that takes two kinds shows itself sooner
where nothing else disturbs it, and a failing seed is smaller. Every kind draws from a chance of its own, so that taking
one away (`without`) leaves the others as they were.
"""

from decimal import Decimal
from random import Random
from typing import Any

import msgspec

D = Decimal

# What may go wrong -> the range of its rate: a probability per call or event, or how often it happens in a world.
FAULTS: dict[str, tuple[float, float]] = {
    # requests to the exchange, per call
    "lost": (0.02, 0.3),  # never arrives; the caller is not told
    "unanswered": (0.02, 0.3),  # carried out, the answer is lost
    "late": (0.02, 0.3),  # the caller gives up first; arrives afterwards, or is refused as too old
    "limited": (0.02, 0.25),  # refused for the rate
    "refused": (0.02, 0.15),  # an order, or a stop, is refused for good
    "rejected": (0.03, 0.2),  # accepted, and ended without a fill a moment later
    "partial": (0.05, 0.4),  # a part is filled, the rest cancelled
    "in_two": (0.05, 0.5),  # filled in two executions
    "unread": (0.02, 0.3),  # reads fail
    "outage": (1, 2.99),  # nothing of the exchange answers for some seconds
    # what the exchange shows
    "lag": (0.3, 3.0),  # orders and executions are listed up to so many seconds late
    "position_lag": (0.3, 2.5),  # positions, too
    # its streams
    "fills_twice": (0.1, 0.6),
    "fills_lost": (0.05, 0.5),
    "fills_late": (0.1, 0.6),  # and so out of order
    "private_gap": (1, 2.99),  # the stream breaks and comes back
    "tick_gap": (1, 2.99),  # the public stream breaks and comes back; what was traded meanwhile was not heard
    "ticks_late": (0.1, 2.5),  # the public stream lags behind by up to so many seconds
    "silence": (1, 2.99),  # linked, but one symbol's trades are not delivered
    # processes
    "crash": (1, 4.99),
    "pause": (1, 2.99),
    "slow": (0.002, 0.03),  # a step takes up to 2 s
    "clock": (0.05, 0.9),  # each machine's clock is up to so many seconds off, which it knows from the exchange
    # servers
    "redis": (1, 2.99),  # away for a while
    "rings": (0.1, 0.8),  # rings are lost
    "postgres": (1, 2.99),  # restarts: what was open is rolled back, nothing answers for a while
    "statements": (0.002, 0.02),  # a connection breaks at a statement: before it was carried out, or after
    # senders
    "duplicates": (0.2, 0.8),
    "reorder": (0.2, 0.8),
    "marks": (0.2, 1.0),  # no fault: a trade is followed by mark and best prices; else the streams tell trades alone
    "exits": (0.2, 0.9),  # no fault: rarer kinds of exits, and alerts that change them
    "words": (0.2, 0.9),  # no fault: rarer words, several orders in one alert, what the chart held before
    "disabled": (1, 1.99),  # no fault: a person disables a strategy
    "patches": (1, 2.99),  # no fault: a person changes the exits of what is held
    # others who trade the account
    "hand_closes": (1, 1.99),
    "hand_adds": (1, 1.99),
    "liquidation": (1, 1.99),
    "hand_turns": (1, 1.99),  # round to the other side, at one go
    "hand_opens": (1, 1.99),  # where nothing is held
    "stop_taken": (1, 2.99),  # the native stop is cancelled by hand
    "adoption": (1, 2.99),  # no fault: a person takes what is held there under management
    "blackout": (1, 1.99),  # an outage that outlasts every patience
}


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """Who trades what: one strategy on one symbol of some accounts."""

    strategy: str
    symbol: str
    accounts: tuple[int, ...]


class AccountPlan(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    hedge: bool


class AlertPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`times`: when it is posted, the first and its duplicates."""

    number: int
    strategy: str
    body: dict[str, Any]
    times: tuple[float, ...]
    also: tuple[dict[str, Any], ...] = ()  # further orders of the same alert


class Tick(msgspec.Struct, frozen=True):
    at: float
    symbol: str
    price: Decimal


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that breaks, or somebody who trades, at a moment."""

    at: float
    what: str
    of: str = ""  # process, symbol; of a button: the fraction
    account: int = 0
    seconds: float = 0.0
    steps: int = 0  # a crash: so many steps from then on
    place: str = ""  # a crash: at the next step of which this is the beginning of the name


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    rates: dict[str, float]
    accounts: tuple[AccountPlan, ...]
    books: tuple[Book, ...]
    workers: int
    watchers: int
    market_qty_max: Decimal
    alerts: tuple[AlertPlan, ...]
    happenings: tuple[Happening, ...]
    calm_at: float  # from then on nothing breaks any more
    jumps: float  # probability of one per tick
    swing: float  # of a usual tick, per cent
    sweeps: bool  # in the end, when all is at rest, the price goes through everything that is armed

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(sorted({book.symbol for book in self.books}))


PRICES = {"BTCUSDT": D("60000"), "ETHUSDT": D("3000"), "SOLUSDT": D("200")}
TICKS = {"BTCUSDT": D("0.1"), "ETHUSDT": D("0.01"), "SOLUSDT": D("0.01")}
SIZES = {"BTCUSDT": D("0.001"), "ETHUSDT": D("0.02"), "SOLUSDT": D("0.3")}
NOTICED_S = 2.5  # a silent symbol is asked for by then
TRADED_S = (2.0, 10.0)  # alerts come within so many seconds
CRASH_PLACES = ("place", "set_stop", "commit", "write", "answer")


def draw(seed: int, without: frozenset[str] = frozenset()) -> Plan:
    chance = Random(seed)
    quiet = chance.random() < 0.04
    share, heat = chance.choice((0.1, 0.2, 0.35, 0.6)), chance.choice((1, 2))
    rates = {}
    for kind, (low, high) in FAULTS.items():
        own = Random(f"{seed}:{kind}")
        if own.random() < share and not quiet and kind not in without:
            rates[kind] = low + (high - low) * own.random() ** heat
    accounts = tuple(
        AccountPlan(venue=chance.choice(("bybit", "binance")), hedge=chance.random() < 0.2)
        for _ in range(chance.choice((1, 1, 2)))
    )
    books = _books(chance, len(accounts))
    traded_s = chance.uniform(*TRADED_S)
    alerts = _alerts(chance, seed, rates, books, traded_s)
    calm_at = max(time for alert in alerts for time in alert.times) + chance.uniform(1.0, 5.0)
    workers, watchers = chance.choice((1, 2, 2)), chance.choice((1, 2, 3))
    return Plan(
        seed=seed,
        rates=rates,
        accounts=accounts,
        books=books,
        workers=workers,
        watchers=watchers,
        market_qty_max=D(chance.choice(("500", "500", "500", "0.004"))),
        alerts=alerts,
        happenings=_happenings(seed, rates, accounts, books, workers, watchers, calm_at),
        calm_at=calm_at,
        jumps=chance.choice((0.0, 0.02, 0.1)),
        swing=chance.choice((0.01, 0.05, 0.15)),
        sweeps=Random(f"{seed}:sweeps").random() < 0.12,
    )


def _books(chance: Random, accounts: int) -> tuple[Book, ...]:
    symbols = chance.sample(sorted(PRICES), chance.choice((1, 1, 2)))
    everybody = tuple(range(accounts))
    books = [Book(strategy=f"s{n}", symbol=symbol, accounts=everybody) for n, symbol in enumerate(symbols)]
    if chance.random() < 0.15:  # two strategies want one book
        books.append(Book(strategy="other", symbol=symbols[0], accounts=everybody[:1]))
    return tuple(books)


def _alerts(
    chance: Random, seed: int, rates: dict[str, float], books: tuple[Book, ...], traded_s: float
) -> tuple[AlertPlan, ...]:
    again, mixed, rarer = Random(f"{seed}:duplicates:2"), Random(f"{seed}:reorder:2"), Random(f"{seed}:exits:2")
    words = Random(f"{seed}:words:2")
    exits = rates.get("exits", 0.0)
    found = []
    for number in range(chance.randint(2, 7)):
        book = chance.choice(books)
        at = 1.5 + traded_s * chance.random() if number else 1.5 + chance.random()
        body = _body(chance, book, first=number == 0) | {"id": f"a{number}"}
        if "stop_loss" in body and rarer.random() < exits:
            body |= _rarer_exits(rarer, body)
        if rarer.random() < exits / 2:
            change = {"symbol": book.symbol, "action": "set_exits", **_changed_exits(rarer), "id": f"c{number}"}
            late = at + 4.0 * rarer.random()
            found.append(AlertPlan(number=100 + number, strategy=book.strategy, body=change, times=(late,)))
        also: tuple[dict[str, Any], ...] = ()
        if words.random() < rates.get("words", 0.0):
            body = _in_other_words(words, body)
            if words.random() < 0.5:
                also = tuple(_body(words, book, first=False) for _ in range(words.choice((1, 1, 2))))
        times = [at]
        while again.random() < rates.get("duplicates", 0.0) / 1.5:
            times.append(at + again.choice((0.0, 0.05, 1.0, 4.0)) * again.random())
        if mixed.random() < rates.get("reorder", 0.0):
            times = [time + 5.0 * mixed.random() for time in times]
        found.append(AlertPlan(number=number, strategy=book.strategy, body=body, times=tuple(times), also=also))
    return tuple(sorted(found, key=lambda alert: alert.times[0]))


def _body(chance: Random, book: Book, *, first: bool) -> dict[str, Any]:
    symbol = book.symbol
    wish = chance.choice(("buy", "sell", "long", "short") if first else WISHES)
    body: dict[str, Any] = {"symbol": symbol}
    if wish in ("long", "short", "flat"):
        body["target"] = wish
    else:
        body["action"] = wish
    if wish in ("buy", "sell", "long", "short", "reverse", "add"):
        body |= _size(chance, symbol) | _exits(chance)
        if chance.random() < 0.15:
            body["leverage"] = chance.choice((3, 5, 7))
        if chance.random() < 0.1:
            body["max_age_s"] = chance.choice((1, 3, 10))
    if wish == "reduce":
        body["size"] = {"pct_position": chance.choice((25, 50, 80))}
    return body


WISHES = (
    "buy", "buy", "sell", "sell", "long", "long", "short", "short", "flat", "reverse", "reverse", "add", "add",
    "reduce", "close",
)  # fmt: skip


def _in_other_words(chance: Random, body: dict[str, Any]) -> dict[str, Any]:
    other = {"close": ("close_long", "close_short", "close_all"), "reduce": ("reduce_long", "reduce_short")}.get(
        body.get("action", "")
    )
    if other is not None:
        body = body | {"action": chance.choice(other)}
    return body | {"previous": chance.choice(("long", "short", "flat"))}


def _size(chance: Random, symbol: str) -> dict[str, Any]:
    base = SIZES[symbol] * chance.choice((1, 3, 4, 10, 10))
    if chance.random() < 0.1:
        return {"size": {"pct_equity": 2}}
    return {"size": {"base": format(base, "f")}}


def _exits(chance: Random) -> dict[str, Any]:
    exits: dict[str, Any] = {}
    kind = chance.random()
    if kind < 0.85:
        exits["stop_loss"] = {"pct": chance.choice(("0.1", "0.3", "1", "2"))}
    else:
        exits["trailing"] = {"distance_pct": chance.choice(("0.2", "0.5", "1"))}
    if chance.random() < 0.4:
        near = chance.choice(("0.1", "0.3", "1"))
        exits["take_profit"] = [{"pct": near, "fraction": 0.5}, {"pct": str(2 * D(near)), "fraction": 0.5}]
    if kind < 0.85 and chance.random() < 0.15:
        exits["trailing"] = {"activate_pct": "0.2", "distance_pct": "0.2"}
    if chance.random() < 0.1:
        exits["break_even"] = {"after_pct": "0.2"}
    return exits


def _rarer_exits(chance: Random, body: dict[str, Any]) -> dict[str, Any]:
    exits: dict[str, Any] = {}
    if chance.random() < 0.4:
        exits["time_exit"] = {"after_s": chance.choice((1, 3, 10, 60))}
    if chance.random() < 0.4:
        exits["trailing_take_profit"] = {
            "activate_pct": chance.choice(("0.1", "0.3")), "callback_pct": "0.1",
            **({"min_factor": "0.3", "decay_pct": "0.2"} if chance.random() < 0.5 else {}),
        }  # fmt: skip
    if "take_profit" in body and chance.random() < 0.6:
        exits["stop_steps"] = [{"after_target": 1, "gain_pct": chance.choice(("0", "0.05"))}]
    for name in ("stop_loss", "trailing", "trailing_take_profit", "break_even"):
        given = exits.get(name) or body.get(name)
        if given is not None and chance.random() < 0.3:
            exits[name] = given | {"trigger_by": chance.choice(("mark", "bid", "ask", "bid_ask"))}
    return exits


def _changed_exits(chance: Random) -> dict[str, Any]:
    return chance.choice(
        (
            {"stop_loss": {"pct": chance.choice(("0.1", "0.5", "2"))}},
            {"take_profit": None},
            {"take_profit": [{"pct": "0.2", "fraction": 0.5}], "break_even": None},
            {"trailing": {"distance_pct": "0.3"}},
            {"time_exit": {"after_s": chance.choice((1, 5, 30))}},
        )
    )


def _happenings(
    seed: int,
    rates: dict[str, float],
    accounts: tuple[AccountPlan, ...],
    books: tuple[Book, ...],
    workers: int,
    watchers: int,
    calm_at: float,
) -> tuple[Happening, ...]:
    found: list[Happening] = []
    person = Random(f"{seed}:person")
    if person.random() < 0.15:  # presses close: no fault
        at = 2.0 + (calm_at - 2.0) * person.random()
        found.append(Happening(at=at, what="button", of=person.choice(("1", "1", "0.5"))))
    processes = [f"worker{n}" for n in range(workers)] * 2 + [f"watcher{n}" for n in range(watchers)] * 2 + ["api0"]
    for kind in ("crash", "pause", "redis", "postgres", "outage", "private_gap", "tick_gap", "silence", "hand_closes",
                 "hand_adds", "liquidation", "hand_turns", "hand_opens", "stop_taken", "adoption",
                 "blackout", "disabled", "patches"):  # fmt: skip
        own = Random(f"{seed}:{kind}:2")
        for _ in range(int(rates.get(kind, 0))):
            at = 1.0 + (calm_at - 1.0) * own.random()
            account = own.randrange(len(accounts))
            left = calm_at - at
            one = Happening(at=at, what=kind, account=account)
            match kind:
                case "crash":
                    place = own.choice(("", *CRASH_PLACES))
                    steps = own.randint(0, 3) if place else own.randint(0, 80)
                    one = Happening(at=at, what=kind, of=own.choice(processes), steps=steps, place=place)
                case "pause":
                    one = Happening(at=at, what=kind, of=own.choice(processes), seconds=own.uniform(0.5, 10))
                case "redis" | "postgres" | "outage" | "private_gap" | "tick_gap":
                    most = 3.0 if kind == "postgres" else 8.0
                    one = Happening(at=at, what=kind, account=account, seconds=min(left, own.uniform(0.2, most)))
                case "disabled":
                    one = Happening(at=at, what=kind, of=own.choice(books).strategy)
                case "blackout":
                    one = Happening(at=at, what="outage", account=account, seconds=own.uniform(8.0, 25.0))
                case "silence":
                    symbol = own.choice(books).symbol
                    one = Happening(at=at, what=kind, of=symbol, seconds=min(left, own.uniform(1.0, 8.0)))
                    if one.seconds < NOTICED_S:
                        continue  # docs/reliability.md: what such a one leaves out is not promised to be seen
                case _:
                    one = Happening(at=at, what=kind, of=own.choice(books).symbol, account=account)
            found.append(one)
    return tuple(sorted(found, key=lambda happening: happening.at))
