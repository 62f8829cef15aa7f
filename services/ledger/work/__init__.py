"""What falls due in the ledger, and what it does in the background."""
