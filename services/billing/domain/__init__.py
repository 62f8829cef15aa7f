"""Pure rules of billing: what a charge is made of, and what of it goes to the ledger."""
