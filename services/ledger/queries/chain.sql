The chain of blocks, its heads, and transfers in the order of the chain.

-- @newest_batch_no
-- In a statement of its own, before the transaction has a number: whoever drew a number up to this one has an older one.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS batch_no FROM ledger.batch_no;

-- @take_number
SELECT pg_current_xact_id()::text AS xact_id;

-- @is_oldest
-- Each batch writes, and so gets its transaction's number, before it draws its batch_no. Once no transaction with a lower
-- number than this one runs, all batches up to newest_batch_no were committed or rolled back.
SELECT pg_snapshot_xmin(pg_current_snapshot()) >= pg_current_xact_id() AS is_oldest;

-- @lock_chain
-- One closes blocks of a tenant at a time; the primary key of block would refuse the second.
SELECT pg_advisory_xact_lock(hashtextextended('ledger.chain/' || %(tenant_id)s::text, 0));

-- @unchained
SELECT tenant_id, is_unchained FROM ledger.unchained(%(after)s, %(tenants)s);

-- @read_booked
SELECT t.transfer_id, t.batch_no, t.position, t.debit_account_id, t.credit_account_id, t.currency_code, t.amount_minor,
       t.code, t.kind, t.linked, t.effective_at, t.recorded_at, t.metadata, t.pending_id, t.timeout_ms, t.flags,
       t.asked_all, t.reverses_id, t.reference_kind, t.reference_id, t.reference_part, t.posting_id, t.not_before
  FROM ledger.transfer AS t
 WHERE t.tenant_id = %(tenant_id)s AND (t.batch_no, t.position) > (%(batch_no)s::bigint, %(position)s::integer)
   AND (t.batch_no, t.position) <= (%(last_batch_no)s::bigint, %(last_position)s::integer)
 ORDER BY t.batch_no, t.position
 LIMIT %(limit)s;

-- @read_booked_entries
-- By the times of their batches, and then those of these transfers. Not in order: for that the planner would read by account.
SELECT account_id, seq, transfer_id, amount_minor, balance_after_minor, counter_account_id, currency_code, code,
       recorded_at, effective_at
  FROM ledger.entry
 WHERE tenant_id = %(tenant_id)s AND recorded_at = ANY (%(recorded_at)s::timestamptz[])
   AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_lines
-- What is hashed of transfers, but for their entries, which stand between two texts: docs/decisions/0167 says how it is
-- written. A verification writes the same from the rows by itself.
SELECT t.batch_no, t.position, t.recorded_at, t.transfer_id::text,
       concat('{"amount_minor":', t.amount_minor, ',"asked_all":', t.asked_all::integer, ',"batch_no":', t.batch_no,
              ',"code":', t.code, ',"credit_account_id":', to_json(t.credit_account_id), ',"currency_code":',
              to_json(t.currency_code), ',"debit_account_id":', to_json(t.debit_account_id), ',"effective_at_us":',
              (extract(epoch FROM t.effective_at) * 1000000)::bigint, ',"entries":[') AS before,
       concat('],"flags":', t.flags, ',"kind":', t.kind, ',"linked":', t.linked::integer, ',"metadata":',
              CASE WHEN t.metadata = '{}' THEN '{}'
                   ELSE (SELECT '{' || string_agg(to_json(m.key) || ':' || to_json(m.value), ','
                                                  ORDER BY m.key COLLATE "C") || '}'
                           FROM jsonb_each_text(t.metadata) AS m) END,
              ',"not_before_us":' || (extract(epoch FROM t.not_before) * 1000000)::bigint,
              ',"pending_id":"' || t.pending_id || '"', ',"position":', t.position,
              ',"posting_id":"' || t.posting_id || '"', ',"recorded_at_us":',
              (extract(epoch FROM t.recorded_at) * 1000000)::bigint,
              ',"reference":[' || to_json(t.reference_kind) || ',' || to_json(t.reference_id) || ','
                               || to_json(t.reference_part) || ']',
              ',"reverses_id":"' || t.reverses_id || '"', ',"timeout_ms":', t.timeout_ms, ',"transfer_id":"',
              t.transfer_id, '"}') AS behind
  FROM ledger.transfer AS t
 WHERE t.tenant_id = %(tenant_id)s AND (t.batch_no, t.position) > (%(batch_no)s::bigint, %(position)s::integer)
   AND t.batch_no <= %(last_batch_no)s::bigint
 ORDER BY t.batch_no, t.position
 LIMIT %(limit)s;

-- @read_entry_lines
-- By the times of their batches, and then those of these transfers. Not in order: for that the planner would read by account.
SELECT transfer_id::text, account_id, seq,
       concat('{"account_id":', to_json(account_id), ',"amount_minor":', amount_minor, ',"balance_after_minor":',
              balance_after_minor, ',"code":', code, ',"counter_account_id":', to_json(counter_account_id),
              ',"currency_code":', to_json(currency_code), ',"effective_at_us":',
              (extract(epoch FROM effective_at) * 1000000)::bigint, ',"recorded_at_us":',
              (extract(epoch FROM recorded_at) * 1000000)::bigint, ',"seq":', seq, '}')
  FROM ledger.entry
 WHERE tenant_id = %(tenant_id)s AND recorded_at = ANY (%(recorded_at)s::timestamptz[])
   AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @insert_block
INSERT INTO ledger.block (tenant_id, block_no, first_batch_no, first_position, last_batch_no, last_position,
                          transfer_count, transfer_total, previous_hash, hash, recorded_at)
VALUES (%(tenant_id)s, %(block_no)s, %(first_batch_no)s, %(first_position)s, %(last_batch_no)s, %(last_position)s,
        %(transfer_count)s, %(transfer_total)s, %(previous_hash)s, %(hash)s, %(recorded_at)s);

-- @newest_block
SELECT block_no, first_batch_no, first_position, last_batch_no, last_position, transfer_count, transfer_total,
       previous_hash, hash, recorded_at
  FROM ledger.block WHERE tenant_id = %(tenant_id)s ORDER BY block_no DESC LIMIT 1;

-- @list_blocks_oldest_first
SELECT block_no, first_batch_no, first_position, last_batch_no, last_position, transfer_count, transfer_total,
       previous_hash, hash, recorded_at
  FROM ledger.block WHERE tenant_id = %(tenant_id)s AND block_no > %(after)s ORDER BY block_no LIMIT %(limit)s;

-- @list_blocks_newest_first
SELECT block_no, first_batch_no, first_position, last_batch_no, last_position, transfer_count, transfer_total,
       previous_hash, hash, recorded_at
  FROM ledger.block WHERE tenant_id = %(tenant_id)s AND block_no < %(after)s ORDER BY block_no DESC LIMIT %(limit)s;

-- @read_blocks
SELECT block_no, first_batch_no, first_position, last_batch_no, last_position, transfer_count, transfer_total,
       previous_hash, hash, recorded_at
  FROM ledger.block WHERE tenant_id = %(tenant_id)s AND block_no = ANY (%(block_nos)s::bigint[]);

-- @insert_key
INSERT INTO ledger.signing_key (tenant_id, key_no, key_id, public_key, sealed, created_at)
VALUES (%(tenant_id)s, %(key_no)s, %(key_id)s, %(public_key)s, %(sealed)s, %(now)s)
    ON CONFLICT DO NOTHING;

-- @newest_key
SELECT key_no, sealed FROM ledger.signing_key WHERE tenant_id = %(tenant_id)s ORDER BY key_no DESC LIMIT 1;

-- @public_keys
SELECT key_id, public_key FROM ledger.signing_key WHERE tenant_id = %(tenant_id)s ORDER BY key_no;

-- @insert_head
INSERT INTO ledger.signed_head (tenant_id, block_no, hash, transfer_count, signed_at, key_id, public_key, signature)
VALUES (%(tenant_id)s, %(block_no)s, %(hash)s, %(transfer_count)s, %(signed_at)s, %(key_id)s, %(public_key)s,
        %(signature)s)
    ON CONFLICT DO NOTHING;

-- @newest_head
-- Of the newest block, if its head was asked for before.
SELECT h.tenant_id, h.block_no, h.hash, h.transfer_count, h.signed_at, h.key_id, h.public_key, h.signature
  FROM (SELECT block_no FROM ledger.block WHERE tenant_id = %(tenant_id)s ORDER BY block_no DESC LIMIT 1) AS newest
  JOIN ledger.signed_head AS h ON h.tenant_id = %(tenant_id)s AND h.block_no = newest.block_no;

-- @list_heads
SELECT tenant_id, block_no, hash, transfer_count, signed_at, key_id, public_key, signature
  FROM ledger.signed_head WHERE tenant_id = %(tenant_id)s AND block_no > %(after)s ORDER BY block_no LIMIT %(limit)s;

-- @read_heads
SELECT tenant_id, block_no, hash, transfer_count, signed_at, key_id, public_key, signature
  FROM ledger.signed_head WHERE tenant_id = %(tenant_id)s AND block_no = ANY (%(block_nos)s::bigint[]);
