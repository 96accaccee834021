"""The exchange boundary: flows see `base` and nothing else; each venue has one adapter for its oddities."""
