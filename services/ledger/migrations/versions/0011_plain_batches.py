"""Batches of plain transfers are posted by one function, where no rule beyond the sums of their accounts counts."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0011"
down_revision = "0010"

# Posts all of a batch or nothing of it. What it does not post it leaves to be judged one by one, without a word on why:
# the ids that were new are claimed by then, and the balances locked.
#
# Locks are taken in the order of the ledger: ids, then balances, each sorted; periods and monitors are shared before.
# Each statement has a snapshot of its own, so what was waited for is seen. Plans are kept for batches of any size.
#
# A batch that an account takes as a whole is one that it takes transfer by transfer: what the account has to take is
# the most that its debits, and its credits, could come to in whatever order they stand.
_POST_PLAIN = """
CREATE FUNCTION ledger.post_plain(
  p_tenant text, p_now timestamptz, p_transfer_ids uuid[], p_fingerprints bytea, p_currencies text[],
  p_amounts bigint[], p_codes integer[], p_debit_accounts text[], p_debit_places integer[], p_debit_seqs bigint[],
  p_debit_nets bigint[], p_credit_accounts text[], p_credit_places integer[], p_credit_seqs bigint[],
  p_credit_nets bigint[], p_accounts text[], p_account_currencies text[], p_debits bigint[], p_credits bigint[],
  p_entries bigint[], OUT batch_no bigint, OUT claimed uuid[]
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  c_max CONSTANT bigint := 9223372036854775807;
  v_claimed bigint;
  v_takes_all boolean;
  v_seqs bigint[];
  v_nets bigint[];
BEGIN
  IF EXISTS (SELECT FROM ledger.period WHERE tenant_id = p_tenant AND closed_through >= p_now) THEN
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM ledger.monitor AS m
              WHERE m.tenant_id = p_tenant AND m.account_prefix IS NOT NULL
                AND EXISTS (SELECT FROM unnest(p_accounts) AS a (name)
                             WHERE starts_with(a.name, m.account_prefix))) THEN
    RETURN;
  END IF;

  INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result, recorded_at)
  SELECT p_tenant, t.transfer_id, substring(p_fingerprints FROM (16 * t.place - 15)::integer FOR 16), 1, p_now
    FROM unnest(p_transfer_ids) WITH ORDINALITY AS t (transfer_id, place)
   ORDER BY t.transfer_id
      ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS v_claimed = ROW_COUNT;
  IF v_claimed < cardinality(p_transfer_ids) THEN
    claimed := ARRAY(SELECT i.transfer_id FROM ledger.transfer_id AS i
                      WHERE i.tenant_id = p_tenant AND i.transfer_id = ANY (p_transfer_ids)
                        AND i.claimed_by = pg_current_xact_id());
    RETURN;
  END IF;

  SELECT count(*) = cardinality(p_accounts) AND bool_and(
           b.currency_code = b.asked_currency_code AND NOT (b.closed OR b.limits_at_every_instant OR b.monitored)
           AND b.debits <= c_max - b.debits_posted - b.debits_pending
           AND b.credits <= c_max - b.credits_posted - b.credits_pending
           AND (b.debits = 0 OR (
             NOT (b.debits_must_not_exceed_credits AND b.most > 0)
             AND (b.grows_by_debit OR b.floor_minor IS NULL OR -b.most >= b.floor_minor)
             AND (NOT b.grows_by_debit OR b.ceiling_minor IS NULL OR b.most <= b.ceiling_minor)))
           AND (b.credits = 0 OR (
             NOT (b.credits_must_not_exceed_debits AND b.least < 0)
             AND (NOT b.grows_by_debit OR b.floor_minor IS NULL OR b.least >= b.floor_minor)
             AND (b.grows_by_debit OR b.ceiling_minor IS NULL OR -b.least <= b.ceiling_minor)))),
         array_agg(b.last_seq), array_agg(b.debits_posted - b.credits_posted)
    INTO v_takes_all, v_seqs, v_nets
    FROM (SELECT b.*, a.currency_code AS asked_currency_code, a.debits, a.credits, b.type IN (1, 5) AS grows_by_debit,
                 b.debits_posted::numeric - b.credits_posted + b.debits_pending + a.debits AS most,
                 b.debits_posted::numeric - b.credits_posted - b.credits_pending - a.credits AS least
            FROM unnest(p_accounts, p_account_currencies, p_debits, p_credits)
                 AS a (account_id, currency_code, debits, credits)
            JOIN ledger.balance AS b ON b.tenant_id = p_tenant AND b.account_id = a.account_id
           ORDER BY b.account_id
             FOR NO KEY UPDATE OF b) AS b;
  IF NOT v_takes_all THEN
    claimed := p_transfer_ids;
    RETURN;
  END IF;

  -- Behind the locks: of two batches that share an account, the one that posts first draws the lower number.
  batch_no := nextval('ledger.batch_no');
  INSERT INTO ledger.transfer (tenant_id, transfer_id, batch_no, position, debit_account_id, credit_account_id,
                               currency_code, amount_minor, code, kind, linked, effective_at, recorded_at, metadata)
  SELECT p_tenant, t.transfer_id, post_plain.batch_no, t.place - 1, t.debit_account_id, t.credit_account_id,
         t.currency_code, t.amount_minor, t.code, 1, false, p_now, p_now, '{}'
    FROM unnest(p_transfer_ids, p_debit_accounts, p_credit_accounts, p_currencies, p_amounts, p_codes) WITH ORDINALITY
         AS t (transfer_id, debit_account_id, credit_account_id, currency_code, amount_minor, code, place);
  INSERT INTO ledger.entry (tenant_id, account_id, seq, transfer_id, amount_minor, balance_after_minor,
                            counter_account_id, currency_code, code, recorded_at, effective_at)
  SELECT p_tenant, t.account_id, v_seqs[t.place] + t.seq, t.transfer_id, t.amount_minor, v_nets[t.place] + t.net,
         t.counter_account_id, t.currency_code, t.code, p_now, p_now
    FROM unnest(p_transfer_ids, p_debit_accounts, p_credit_accounts, p_currencies, p_amounts, p_codes, p_debit_places,
                p_debit_seqs, p_debit_nets)
         AS t (transfer_id, account_id, counter_account_id, currency_code, amount_minor, code, place, seq, net)
   UNION ALL
  SELECT p_tenant, t.account_id, v_seqs[t.place] + t.seq, t.transfer_id, -t.amount_minor, v_nets[t.place] + t.net,
         t.counter_account_id, t.currency_code, t.code, p_now, p_now
    FROM unnest(p_transfer_ids, p_credit_accounts, p_debit_accounts, p_currencies, p_amounts, p_codes, p_credit_places,
                p_credit_seqs, p_credit_nets)
         AS t (transfer_id, account_id, counter_account_id, currency_code, amount_minor, code, place, seq, net);
  UPDATE ledger.balance AS b
     SET debits_posted = b.debits_posted + a.debits, credits_posted = b.credits_posted + a.credits,
         last_seq = b.last_seq + a.entries, updated_at = p_now
    FROM unnest(p_accounts, p_debits, p_credits, p_entries) AS a (account_id, debits, credits, entries)
   WHERE b.tenant_id = p_tenant AND b.account_id = a.account_id;
END
$$
"""
_SIGNATURE = (
    "ledger.post_plain(text, timestamptz, uuid[], bytea, text[], bigint[], integer[], text[], integer[], bigint[],"
    " bigint[], text[], integer[], bigint[], bigint[], text[], text[], bigint[], bigint[], bigint[])"
)


def upgrade() -> None:
    """Make the function; it does what the service's role may do."""
    op.execute(_POST_PLAIN)
    schema.grant_function(op, _SIGNATURE)


def downgrade() -> None:
    """Drop it; no row changes."""
    op.execute(f"DROP FUNCTION {_SIGNATURE}")
