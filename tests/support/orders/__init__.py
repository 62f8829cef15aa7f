"""Settlement on a real server, with billing and the ledger."""
