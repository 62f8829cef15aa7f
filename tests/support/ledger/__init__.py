"""Drivers of the ledger's rules: books in memory, and a plain model of what may be posted to them."""
