"""Use cases of pricing: load, decide (domain), store, tell."""
