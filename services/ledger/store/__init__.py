"""Every statement of the ledger, from and to domain values. Nothing here decides."""
