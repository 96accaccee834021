"""Decisions: pure functions and values. No I/O, no clock, no await; `now` and prices come in as arguments."""
