"""Levelhead: receives charting alerts and manages crypto futures positions."""
