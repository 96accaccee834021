"""One planted bug."""

import msgspec


class Bug(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    file: str
    old: str  # stands in the file exactly once
    new: str
    loses: str  # what it would cost
    tests: str  # the fastest selection that has to catch it: arguments of pytest

    def planted_in(self, source: str) -> str:
        """The source with the bug. Raises ValueError unless its place is found exactly once."""
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: {self.file} has its place {found} times, not once")
        return source.replace(self.old, self.new)
