"""Pure rules of the ledger: accounts, transfers, the posting of a batch, the trial balance."""
