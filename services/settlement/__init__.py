"""Settlement brings money to those who have earned it: it keeps what partners earn, and pays it out.

It learns from the event of each settled charge that there is something to take in, reads the charge's lines, and keeps
what they earn with a balance for each party and currency. A payout is decided on in the transaction that takes it off a
balance, so nothing is paid twice; the ledger posts it afterwards, once for the payout, whoever dies meanwhile.
"""
