"""Billing turns metered usage into what an organisation owes: it has it rated, keeps the lines for good, posts them.

A charge crosses three services and must come out once whatever dies on the way, so it goes in steps that can each be
repeated: the lines are frozen first, then posted by the ledger's recipe, once for the charge, then marked as settled.
"""
