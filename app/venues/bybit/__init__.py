"""Bybit V5, USDT perpetuals."""
