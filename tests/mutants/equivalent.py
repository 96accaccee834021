"""Mutants of app/domain that no test can notice, because they do the same: name -> why."""

_NONE_IN_A_TABLE = "without an action the table answers None, which is what the condition answers"
_ONE_OF_BOTH = "an alert names one of action and target, so the other side of the condition follows"
_COSTS_TIME = "the same levels fire: the loop behind it looks at each of them, this only spares it the look"
_ANY_NUMBER = "the numbers of heap entries have to differ, and nothing else"

EQUIVALENT: dict[str, str] = {
    "decide.py _decide_hedged: _OPENING.get(signal.action) if signal.action else None → "
    "_OPENING.get(signal.action) if True else None": _NONE_IN_A_TABLE,
    "decide.py _decide_hedged: _MEANT.get(signal.action, side) if signal.action else None → "
    "_MEANT.get(signal.action, side) if True else None": _NONE_IN_A_TABLE,
    "decide.py _decide_hedged: meant is None and signal.target not in (None, Target.FLAT) → "
    "signal.target not in (None, Target.FLAT)": _ONE_OF_BOTH,
    "decide.py _decide_hedged: meant is not None and meant in others → meant in others": "None is no side that is held",
    "decide.py _decide_hedged: meant if not closes_all else None → meant if True else None": (
        "what closes all names no side"
    ),
    "decide.py _open: …on is Action.REVERSE and (reverses is not None) → …on is Action.REVERSE": (
        "a reversal that opens has something to reverse"
    ),
    "sizing.py _stop_distance: None if exits is None else exits.stop_loss → None if False else exits.stop_loss": (
        "only openings are sized by risk, and they have exits, if empty ones"
    ),
    "exits.py check_exits: ZERO → ONE #2": "a distance of one per cent is below a hundred, too",
    "exits.py _towards_entry: direction > 0 → direction >= 0": "a direction is 1 or -1",
    "level_book.py LevelBook.__init__: 0 → 1": _ANY_NUMBER,
    "level_book.py LevelBook._push: 1 → 2": _ANY_NUMBER,
    "level_book.py LevelBook._push: self._next_entry += 1 → self._next_entry -= 1": _ANY_NUMBER,
    "level_book.py _Heap.push: if len(self) > 2 * len(entries) + 64: → if True:": _COSTS_TIME,
    "level_book.py _Heap.push: len(self) > 2 * len(entries) + 64 → len(self) >= 2 * len(entries) + 64": (_COSTS_TIME),
    "level_book.py _Heap.push: len(self) > 2 * len(entries) + 64 → len(self) <= 2 * len(entries) + 64": (_COSTS_TIME),
    "level_book.py _Heap.push: 2 * len(entries) + 64 → 2 * len(entries) - 64": _COSTS_TIME,
    "level_book.py _Heap.push: 2 * len(entries) → 2 / len(entries)": _COSTS_TIME,
    "level_book.py _Heap.push: 64 → 65": _COSTS_TIME,
    "level_book.py _Heap.push: 2 → 3": _COSTS_TIME,
}
