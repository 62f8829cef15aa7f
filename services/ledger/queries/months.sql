The partitions of the books, made by the owner's rights.

-- @make_months
SELECT ledger.make_months(%(from)s, %(months)s);
