"""The store in memory: what PostgreSQL would answer to the statements of `app.store`, in microseconds.

The store's own functions run unchanged on a `MemoryPool`; each statement is looked up by its text and carried out by a
small function over `Tables`. `test_twin.py` proves against a real PostgreSQL that the two do the same.

What it leaves out: transactions run one after the other (the first statement of one waits until the other has ended),
so what two open transactions could do to each other between their locks is not searched here.
"""
