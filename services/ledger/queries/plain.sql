Batches of plain transfers that are posted as a whole: the function of the database, see its migration.

-- @post_plain
SELECT batch_no, claimed
  FROM ledger.post_plain(
         %(tenant_id)s, %(now)s, %(transfer_ids)s, %(fingerprints)s, %(currency_codes)s, %(amounts)s, %(codes)s,
         %(debit_account_ids)s, %(debit_places)s, %(debit_seqs)s, %(debit_nets)s, %(credit_account_ids)s,
         %(credit_places)s, %(credit_seqs)s, %(credit_nets)s, %(account_ids)s, %(account_currency_codes)s, %(debits)s,
         %(credits)s, %(entries)s);
