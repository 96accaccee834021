"""A local exchange for paper trading, tests and fire drills: one matching engine, wire faces on top of it.

`python -m simulator` runs it; `simulator.server.running` starts it inside a test.
"""
