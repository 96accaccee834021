"""`levelhead up`: everything on one machine under one supervisor. `main.py` tells the order of events."""
