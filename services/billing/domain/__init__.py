"""Pure rules of billing: what a charge is made of, and what it means in the ledger."""
