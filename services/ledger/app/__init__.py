"""Use cases of the ledger: load and lock, decide (domain), store, tell; each in one unit of work."""
