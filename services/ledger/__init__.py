"""The ledger keeps the books: accounts, transfers between two of them, and the entries that each leaves.

Whoever moves money posts it here; nothing here knows why it moved. What is written is never changed or deleted,
only the balances of the accounts grow.
"""
