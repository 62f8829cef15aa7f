"""Pricing: what is sold, at which prices, to whom, and what metered usage of a period costs, with the proof of it."""
