Statements of payments. They run as the services' role, for the tenant of the transaction.

-- @insert_payment
-- Leased to its maker while there is something to do.
INSERT INTO orchestration.payment
      (tenant_id, payment_id, request_key, merchant_id, order_id, person_id, org_id, currency, total_minor, context,
       plan_id, plan_hash, capture, config_version, status, correlation_id, causation_id, traceparent, due_at, lease_owner,
       lease_until, epoch, created_at, updated_at)
VALUES (%(tenant_id)s, %(payment_id)s, %(request_key)s, %(merchant_id)s, %(order_id)s, %(person_id)s, %(org_id)s,
        %(currency)s, %(total_minor)s, %(context)s, %(plan_id)s, %(plan_hash)s, %(capture)s, %(config_version)s, %(status)s, %(correlation_id)s,
        %(causation_id)s, %(traceparent)s, CASE WHEN %(under_way)s::boolean THEN %(now)s::timestamptz END,
        CASE WHEN %(under_way)s::boolean THEN %(lease_owner)s END,
        CASE WHEN %(under_way)s::boolean
             THEN clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0) END,
        1, %(now)s, %(now)s);

-- @plan_again
-- Finds no row when another call has planned it.
UPDATE orchestration.payment AS p
   SET person_id = %(person_id)s, org_id = %(org_id)s, currency = %(currency)s, total_minor = %(total_minor)s::bigint,
       context = %(context)s::jsonb, plan_id = %(plan_id)s, plan_hash = %(plan_hash)s,
       capture = %(capture)s, config_version = %(config_version)s::integer,
       status = %(status)s, correlation_id = %(correlation_id)s, causation_id = %(causation_id)s,
       traceparent = %(traceparent)s, epoch = p.epoch + 1,
       due_at = CASE WHEN %(under_way)s::boolean THEN %(now)s::timestamptz END,
       lease_owner = CASE WHEN %(under_way)s::boolean THEN %(lease_owner)s END,
       lease_until = CASE WHEN %(under_way)s::boolean
                          THEN clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0) END,
       updated_at = %(now)s::timestamptz
 WHERE p.tenant_id = %(tenant_id)s AND p.payment_id = %(payment_id)s AND p.status = 'REFUSED'
RETURNING epoch;

-- @insert_steps
INSERT INTO orchestration.step (tenant_id, payment_id, step_index, method, amount_minor, processors, token, holds)
SELECT %(tenant_id)s, %(payment_id)s, s.step_index, s.method, s.amount_minor, s.processors, s.token, s.holds
  FROM jsonb_to_recordset(%(steps)s::jsonb)
       AS s (step_index integer, method text, amount_minor bigint, processors text[], token text, holds boolean);

-- @load_payments
SELECT p.payment_id, p.request_key, p.merchant_id, p.order_id, p.person_id, p.org_id, p.currency, p.total_minor,
       p.context, p.plan_id, p.plan_hash, p.capture, p.config_version, p.status, p.created_at, p.updated_at,
       c.attempts_per_processor_max, c.call_timeout_ms, c.partial_allowed, c.backoff_ms
  FROM orchestration.payment AS p
  LEFT JOIN orchestration.merchant_config AS c
    ON c.tenant_id = p.tenant_id AND c.merchant_id = p.merchant_id AND c.version = p.config_version
 WHERE p.tenant_id = %(tenant_id)s AND p.payment_id = ANY(%(payment_ids)s);

-- @load_steps
SELECT payment_id, method, amount_minor, processors, token, holds FROM orchestration.step
 WHERE tenant_id = %(tenant_id)s AND payment_id = ANY(%(payment_ids)s) ORDER BY step_index;

-- @load_attempts
SELECT payment_id, attempt_id,
       step_index, number, operation, processor_id, amount_minor, idempotency_key, status, created_at, parent_id,
       error_code, failure_code, retryable, provider_ref, message, latency_ms, sent_at, settled_at, verify_count,
       not_found_count, verify_after, instruction_id, closes, replayed_at, resolved_by, evidence, instrument,
       never_again, withheld_by, processor_of
  FROM orchestration.attempt
 WHERE tenant_id = %(tenant_id)s AND payment_id = ANY(%(payment_ids)s) ORDER BY ordinal;

-- @insert_attempt
-- The guard indexes refuse a second live one for its step.
INSERT INTO orchestration.attempt
      (tenant_id, payment_id, ordinal, attempt_id, step_index, number, operation, processor_id, amount_minor,
       idempotency_key, status, created_at, parent_id, error_code, failure_code, retryable, provider_ref, message,
       latency_ms, sent_at, settled_at, verify_count, not_found_count, verify_after, instruction_id, closes,
       replayed_at, resolved_by, evidence, instrument, never_again, withheld_by, processor_of)
VALUES (%(tenant_id)s, %(payment_id)s, %(ordinal)s, %(attempt_id)s, %(step_index)s, %(number)s, %(operation)s,
        %(processor_id)s, %(amount_minor)s, %(idempotency_key)s, %(status)s, %(created_at)s, %(parent_id)s,
        %(error_code)s, %(failure_code)s, %(retryable)s, %(provider_ref)s, %(message)s, %(latency_ms)s, %(sent_at)s,
        %(settled_at)s, %(verify_count)s, %(not_found_count)s, %(verify_after)s, %(instruction_id)s, %(closes)s,
        %(replayed_at)s, %(resolved_by)s, %(evidence)s, %(instrument)s, %(never_again)s, %(withheld_by)s,
        %(processor_of)s);

-- @lock_instrument
SELECT pg_advisory_xact_lock(hashtextextended('orchestration.instrument:' || %(tenant_id)s || ':' || %(instrument)s, 0));

-- @tried
-- What is under way counts, for it may be refused.
SELECT created_at, never_again, failure_code FROM orchestration.attempt
 WHERE tenant_id = %(tenant_id)s AND instrument = %(instrument)s AND created_at > %(since_at)s
   AND status IN ('SENT', 'UNKNOWN', 'PENDING', 'MANUAL', 'DECLINED')
 ORDER BY created_at DESC LIMIT %(limit)s;

-- @load_instructions
SELECT payment_id, instruction_id, operation, amount_minor, created_at, created_by, keep_open, reason
  FROM orchestration.instruction
 WHERE tenant_id = %(tenant_id)s AND payment_id = ANY(%(payment_ids)s) ORDER BY ordinal;

-- @insert_instruction
INSERT INTO orchestration.instruction
      (tenant_id, instruction_id, payment_id, ordinal, operation, amount_minor, keep_open, reason, created_at, created_by)
VALUES (%(tenant_id)s, %(instruction_id)s, %(payment_id)s, %(ordinal)s, %(operation)s, %(amount_minor)s, %(keep_open)s,
        %(reason)s, %(created_at)s, %(created_by)s);

-- @reopen
-- Leased to who gives the instruction. Finds no row where another's is under way.
UPDATE orchestration.payment
   SET due_at = %(now)s, lease_owner = %(lease_owner)s,
       lease_until = clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0), epoch = epoch + 1, tries = 0,
       correlation_id = %(correlation_id)s, causation_id = %(causation_id)s, traceparent = %(traceparent)s
 WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s AND due_at IS NULL
   AND status IN ('AUTHORIZED', 'SUCCEEDED', 'PARTIALLY_PAID')
RETURNING epoch;

-- @lock_by_attempt
SELECT p.payment_id, p.due_at IS NOT NULL AND p.lease_until IS NOT NULL AND p.lease_until >= clock_timestamp() AS leased
  FROM orchestration.attempt AS a
  JOIN orchestration.payment AS p ON p.tenant_id = a.tenant_id AND p.payment_id = a.payment_id
 WHERE a.tenant_id = %(tenant_id)s AND a.attempt_id = %(attempt_id)s
   FOR NO KEY UPDATE OF p;

-- @is_under_way
SELECT due_at IS NOT NULL AND lease_until IS NOT NULL AND lease_until >= clock_timestamp()
  FROM orchestration.payment WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s;

-- @seize
-- For who has locked it and found that nobody holds it; a worker whose lease has run out writes nothing any more.
UPDATE orchestration.payment
   SET due_at = %(now)s, lease_owner = %(lease_owner)s,
       lease_until = clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0), epoch = epoch + 1, tries = 0,
       correlation_id = %(correlation_id)s, causation_id = %(causation_id)s, traceparent = %(traceparent)s
 WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s
RETURNING epoch;

-- @update_attempt
UPDATE orchestration.attempt
   SET step_index = %(step_index)s, number = %(number)s, operation = %(operation)s, processor_id = %(processor_id)s,
       amount_minor = %(amount_minor)s, idempotency_key = %(idempotency_key)s, status = %(status)s,
       created_at = %(created_at)s, parent_id = %(parent_id)s, error_code = %(error_code)s,
       failure_code = %(failure_code)s, retryable = %(retryable)s, provider_ref = %(provider_ref)s,
       message = %(message)s, latency_ms = %(latency_ms)s, sent_at = %(sent_at)s, settled_at = %(settled_at)s,
       verify_count = %(verify_count)s, not_found_count = %(not_found_count)s, verify_after = %(verify_after)s,
       replayed_at = %(replayed_at)s, resolved_by = %(resolved_by)s, evidence = %(evidence)s,
       never_again = %(never_again)s
 WHERE tenant_id = %(tenant_id)s AND attempt_id = %(attempt_id)s;

-- @claim_due
-- Takes the lease of payments that are due, of every tenant; another sweeper's are skipped.
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM orchestration.claim_due(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @due_lag
SELECT due, oldest_at FROM orchestration.due_lag(%(now)s);

-- @manual_outcomes
SELECT manual FROM orchestration.manual_outcomes();

-- @unknown_outcomes
SELECT unknown, oldest_at FROM orchestration.unknown_outcomes();

-- @hold
-- The first statement of every transition: locks the payment, and finds no row once another has taken the lease.
UPDATE orchestration.payment
   SET lease_until = clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0),
       status = %(status)s, updated_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s AND epoch = %(epoch)s
   AND due_at IS NOT NULL
RETURNING payment_id;

-- @release
-- Hands the payment back: due again at due_at, or never.
UPDATE orchestration.payment
   SET lease_owner = NULL, lease_until = NULL, tries = 0, due_at = %(due_at)s, status = %(status)s, updated_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s AND epoch = %(epoch)s
   AND due_at IS NOT NULL
RETURNING payment_id;

-- @insert_booking
INSERT INTO orchestration.booking
      (tenant_id, attempt_id, payment_id, earlier, due_at, correlation_id, causation_id, traceparent, created_at)
VALUES (%(tenant_id)s, %(attempt_id)s, %(payment_id)s, %(earlier)s, %(now)s, %(correlation_id)s, %(causation_id)s,
        %(traceparent)s, %(now)s);

-- @payment_of_booking
SELECT payment_id FROM orchestration.booking WHERE tenant_id = %(tenant_id)s AND attempt_id = %(attempt_id)s;

-- @bookings_of_payment
SELECT attempt_id, earlier, posting_id, transfer_id, booked_minor, booked_at FROM orchestration.booking
 WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s;

-- @lock_payment
SELECT FROM orchestration.payment WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s FOR NO KEY UPDATE;

-- @settle_booking
-- Whoever has the lease: the posting is the same for all.
UPDATE orchestration.booking
   SET due_at = NULL, lease_owner = NULL, lease_until = NULL, posting_id = %(posting_id)s, transfer_id = %(transfer_id)s,
       booked_minor = %(booked_minor)s, booked_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND attempt_id = %(attempt_id)s AND booked_at IS NULL
RETURNING attempt_id;

-- @put_off_booking
-- The tries go on being counted.
UPDATE orchestration.booking SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND attempt_id = %(attempt_id)s AND epoch = %(epoch)s AND booked_at IS NULL
RETURNING attempt_id;

-- @compare_payment
-- An attempt without a booking counts as one that has not moved anything in the books.
SELECT p.status, sums.kept_minor, sums.booked_minor, sums.waiting
  FROM orchestration.payment AS p,
       LATERAL (
         SELECT coalesce(sum(a.sign * a.amount_minor), 0)::bigint AS kept_minor,
                coalesce(sum(a.sign * b.booked_minor), 0)::bigint AS booked_minor,
                count(*) FILTER (WHERE b.due_at IS NOT NULL) AS waiting
           FROM (SELECT t.tenant_id, t.attempt_id, t.amount_minor, CASE t.operation WHEN 'REFUND' THEN -1 ELSE 1 END AS sign
                   FROM orchestration.attempt AS t
                  WHERE t.tenant_id = p.tenant_id AND t.payment_id = p.payment_id
                    AND (t.status = 'SUCCEEDED' AND t.operation IN ('CHARGE', 'CAPTURE', 'REFUND')
                         OR t.status IN ('LATE_CHARGE', 'REVERSED') AND t.operation IN ('CHARGE', 'CAPTURE'))) AS a
           LEFT JOIN orchestration.booking AS b ON b.tenant_id = a.tenant_id AND b.attempt_id = a.attempt_id) AS sums
 WHERE p.tenant_id = %(tenant_id)s AND p.payment_id = %(payment_id)s;

-- @claim_booking
-- Takes the lease of what is to be booked, of every tenant; another worker's is skipped.
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM orchestration.claim_booking(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @booking_lag
SELECT due, oldest_at FROM orchestration.booking_lag(%(now)s);

-- @current_version
-- A merchant whose versions were removed counts anew: when one was stored tells it from another of its number.
SELECT version, created_at FROM orchestration.merchant_config
 WHERE tenant_id = %(tenant_id)s AND merchant_id = %(merchant_id)s
 ORDER BY version DESC LIMIT 1;

-- @lock_merchant
-- Versions of one merchant are counted one at a time.
SELECT pg_advisory_xact_lock(hashtextextended('orchestration.merchant:' || %(tenant_id)s || ':' || %(merchant_id)s, 0));

-- @sandbox_followed
-- What has followed an order: what was given back of a charge, captured or let go of an authorisation.
SELECT coalesce(sum(amount_minor), 0)::bigint AS amount_minor, coalesce(bool_or(closes), false) AS closed
  FROM orchestration.sandbox_order
 WHERE tenant_id = %(tenant_id)s AND processor_id = %(processor_id)s AND charge_key = %(parent_key)s AND done;

-- @sandbox_insert
-- The same key again finds the first outcome.
INSERT INTO orchestration.sandbox_order
      (tenant_id, processor_id, idempotency_key, merchant_ref, operation, charge_key, amount_minor, currency, token,
       done, error_code, failure_code, retryable, provider_ref, message, created_at, closes)
VALUES (%(tenant_id)s, %(processor_id)s, %(idempotency_key)s, %(merchant_ref)s, %(operation)s, %(parent_key)s,
        %(amount_minor)s, %(currency)s, %(token)s, %(done)s, %(error_code)s, %(failure_code)s, %(retryable)s,
        %(provider_ref)s, %(message)s, %(created_at)s, %(closes)s)
ON CONFLICT DO NOTHING
RETURNING idempotency_key;

-- @sandbox_by_key
SELECT idempotency_key, merchant_ref, operation, amount_minor, currency, token, done, error_code, failure_code, retryable,
       provider_ref, message, created_at
  FROM orchestration.sandbox_order
 WHERE tenant_id = %(tenant_id)s AND processor_id = %(processor_id)s AND idempotency_key = %(idempotency_key)s;

-- @sandbox_by_key_locked
SELECT idempotency_key, merchant_ref, operation, amount_minor, currency, token, done, error_code, failure_code, retryable,
       provider_ref, message, created_at
  FROM orchestration.sandbox_order
 WHERE tenant_id = %(tenant_id)s AND processor_id = %(processor_id)s AND idempotency_key = %(idempotency_key)s
   FOR UPDATE;

-- @sandbox_by_ref
SELECT idempotency_key, merchant_ref, operation, amount_minor, currency, token, done, error_code, failure_code, retryable,
       provider_ref, message, created_at
  FROM orchestration.sandbox_order
 WHERE tenant_id = %(tenant_id)s AND processor_id = %(processor_id)s AND merchant_ref = %(merchant_ref)s;

-- One transaction at a time sums up the payments of an order.
-- @lock_order
SELECT pg_advisory_xact_lock(hashtextextended('tollmesh.order/' || %(tenant_id)s || '/' || %(order_id)s, 0));

-- @health
-- What was lately seen of processors, 1,000 attempts of each at most. Payers' errors (what no other processor would have
-- done either) count neither way; an outcome that is not known counts against the processor.
SELECT p.processor_id,
       count(*) FILTER (WHERE x.status = 'SUCCEEDED') AS done,
       count(*) FILTER (WHERE x.status IN ('UNKNOWN', 'MANUAL', 'NOT_CHARGED', 'NOT_SENT')
                           OR (x.status = 'DECLINED' AND (x.retryable OR x.error_code = 'unknown'))) AS failed
  FROM unnest(%(processors)s::text[], %(owners)s::text[]) AS p (processor_id, processor_of),
       LATERAL (
         SELECT a.status, a.retryable, a.error_code
           FROM orchestration.attempt AS a
          WHERE a.tenant_id = %(tenant_id)s AND a.processor_id = p.processor_id
            AND a.processor_of = p.processor_of AND a.created_at > %(since_at)s
            AND a.operation IN ('CHARGE', 'AUTHORIZE')
          ORDER BY a.created_at DESC LIMIT 1000) AS x
 GROUP BY p.processor_id;

-- @lock_velocity
-- Of payments that count together one at a time looks at what was counted.
SELECT pg_advisory_xact_lock(hashtextextended('orchestration.velocity:' || %(tenant_id)s || ':' || %(key)s, 0));

-- @velocity
SELECT coalesce(sum(payments), 0)::bigint AS payments,
       coalesce(sum(amount_minor) FILTER (WHERE currency = %(currency)s), 0)::numeric AS amount_minor
  FROM orchestration.velocity
 WHERE tenant_id = %(tenant_id)s AND merchant_id = %(merchant_id)s AND scope = %(scope)s AND subject = %(subject)s
   AND slot_s = %(slot_s)s AND slot_at >= %(since_at)s;

-- @count_velocity
INSERT INTO orchestration.velocity AS v
      (tenant_id, merchant_id, scope, subject, slot_s, slot_at, currency, payments, amount_minor, expires_at)
VALUES (%(tenant_id)s, %(merchant_id)s, %(scope)s, %(subject)s, %(slot_s)s, %(slot_at)s, %(currency)s, 1,
        %(amount_minor)s, %(expires_at)s)
ON CONFLICT (tenant_id, merchant_id, scope, subject, slot_s, slot_at, currency) DO UPDATE
   SET payments = v.payments + 1, amount_minor = v.amount_minor + EXCLUDED.amount_minor,
       expires_at = greatest(v.expires_at, EXCLUDED.expires_at);

-- @forget_velocity
-- Each payment that counts removes more than it adds, so what is over does not pile up.
DELETE FROM orchestration.velocity AS v
 USING (SELECT o.tenant_id, o.merchant_id, o.scope, o.subject, o.slot_s, o.slot_at, o.currency
          FROM orchestration.velocity AS o
         WHERE o.tenant_id = %(tenant_id)s AND o.expires_at < %(now)s
         ORDER BY o.expires_at LIMIT 50 FOR UPDATE SKIP LOCKED) AS over
 WHERE v.tenant_id = over.tenant_id AND v.merchant_id = over.merchant_id AND v.scope = over.scope
   AND v.subject = over.subject AND v.slot_s = over.slot_s AND v.slot_at = over.slot_at AND v.currency = over.currency;

-- @recent_attempts
-- The last attempts of processors to take an amount, the newest first: those that ended, of which the last few count, and
-- the last one that is under way. However many are, they hide no fault.
SELECT p.processor_id, x.status, x.created_at
  FROM unnest(%(processors)s::text[], %(owners)s::text[]) AS p (processor_id, processor_of),
       LATERAL (
         (SELECT a.status, a.created_at
            FROM orchestration.attempt AS a
           WHERE a.tenant_id = %(tenant_id)s AND a.processor_id = p.processor_id
            AND a.processor_of = p.processor_of AND a.created_at > %(since_at)s
             AND a.operation IN ('CHARGE', 'AUTHORIZE')
             AND a.status NOT IN ('CREATED', 'SENT', 'PENDING', 'VOIDED_UNSENT')
           ORDER BY a.created_at DESC LIMIT %(recent_max)s)
         UNION ALL
         (SELECT a.status, a.created_at
            FROM orchestration.attempt AS a
           WHERE a.tenant_id = %(tenant_id)s AND a.processor_id = p.processor_id
            AND a.processor_of = p.processor_of AND a.created_at > %(tried_since_at)s
             AND a.operation IN ('CHARGE', 'AUTHORIZE') AND a.status IN ('CREATED', 'SENT', 'PENDING')
           ORDER BY a.created_at DESC LIMIT 1)) AS x
 ORDER BY p.processor_id, x.created_at DESC;

-- @processor_health
-- As @health counts, of one processor, with how long it took to answer.
SELECT count(*) AS attempts,
       count(*) FILTER (WHERE x.status = 'SUCCEEDED') AS done,
       count(*) FILTER (WHERE x.status IN ('UNKNOWN', 'MANUAL', 'NOT_CHARGED', 'NOT_SENT')
                           OR (x.status = 'DECLINED' AND (x.retryable OR x.error_code = 'unknown'))) AS failed,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY x.latency_ms)
         FILTER (WHERE x.status IN ('SUCCEEDED', 'DECLINED')) AS latency_p50_ms,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY x.latency_ms)
         FILTER (WHERE x.status IN ('SUCCEEDED', 'DECLINED')) AS latency_p95_ms,
       max(x.created_at) AS last_at
  FROM (SELECT a.status, a.retryable, a.error_code, a.latency_ms, a.created_at
          FROM orchestration.attempt AS a
         WHERE a.tenant_id = %(tenant_id)s AND a.processor_id = %(processor_id)s AND a.processor_of = %(owner)s
           AND a.created_at > %(since_at)s
           AND a.operation IN ('CHARGE', 'AUTHORIZE')
         ORDER BY a.created_at DESC LIMIT 1000) AS x;

-- @is_known_processor
SELECT EXISTS (SELECT FROM orchestration.attempt AS a
                WHERE a.tenant_id = %(tenant_id)s AND a.processor_id = %(processor_id)s
                  AND a.processor_of = %(owner)s AND a.operation IN ('CHARGE', 'AUTHORIZE'))
    OR EXISTS (SELECT FROM orchestration.merchant_config AS c
                WHERE c.tenant_id = %(tenant_id)s AND c.merchant_id = %(owner)s
                  AND c.processors @> jsonb_build_array(jsonb_build_object('processor_id', %(processor_id)s::text)))
    AS is_known;

-- @processors_sent_to
-- A merchant's newest words about the credential count: what it said when it paid tells only which one that was.
SELECT DISTINCT latest.processor
  FROM orchestration.attempt AS a
  JOIN orchestration.payment AS y ON y.tenant_id = a.tenant_id AND y.payment_id = a.payment_id
  JOIN orchestration.merchant_config AS c
    ON c.tenant_id = y.tenant_id AND c.merchant_id = y.merchant_id AND c.version = y.config_version
 CROSS JOIN LATERAL jsonb_array_elements(c.processors) AS sent (processor)
 CROSS JOIN LATERAL (
       SELECT p.processor
         FROM orchestration.merchant_config AS n, jsonb_array_elements(n.processors) AS p (processor)
        WHERE n.tenant_id = y.tenant_id AND n.merchant_id = y.merchant_id AND n.version >= y.config_version
          AND p.processor ->> 'processor_id' = %(processor_id)s
          AND p.processor ->> 'credential_ref' = sent.processor ->> 'credential_ref'
          AND p.processor ->> 'adapter' = sent.processor ->> 'adapter'
        ORDER BY n.version DESC LIMIT 1) AS latest
 WHERE a.tenant_id = %(tenant_id)s AND a.attempt_id = ANY(%(attempt_ids)s)
   AND a.processor_id = %(processor_id)s AND sent.processor ->> 'processor_id' = %(processor_id)s;

-- @processors_named
-- The newest of each credential: which of them signed is found out by the signature.
SELECT DISTINCT ON (p.processor ->> 'credential_ref', p.processor ->> 'adapter') p.processor
  FROM orchestration.merchant_config AS c, jsonb_array_elements(c.processors) AS p (processor)
 WHERE c.tenant_id = %(tenant_id)s
   AND c.processors @> jsonb_build_array(jsonb_build_object('processor_id', %(processor_id)s::text))
   AND p.processor ->> 'processor_id' = %(processor_id)s
 ORDER BY p.processor ->> 'credential_ref', p.processor ->> 'adapter', c.created_at DESC
 LIMIT %(limit)s;

-- @find_processor_event
SELECT attempt_id FROM orchestration.processor_event
 WHERE tenant_id = %(tenant_id)s AND processor_id = %(processor_id)s AND event_id = %(event_id)s
   AND attempt_id = %(attempt_id)s;

-- @insert_processor_event
-- Finds no row when another call has stored it. Ids are the processor's own: under one name several accounts may use the
-- same, so that one which is stored about something else stands in nobody's way.
INSERT INTO orchestration.processor_event AS e (tenant_id, processor_id, event_id, attempt_id, received_at)
VALUES (%(tenant_id)s, %(processor_id)s, %(event_id)s, %(attempt_id)s, %(now)s)
ON CONFLICT (tenant_id, processor_id, event_id) DO UPDATE
   SET attempt_id = excluded.attempt_id, received_at = excluded.received_at
 WHERE e.attempt_id <> excluded.attempt_id
RETURNING event_id;

-- @forget_processor_events
-- Each that is stored removes more than it adds, so what is over does not pile up.
DELETE FROM orchestration.processor_event AS e
 USING (SELECT o.processor_id, o.event_id FROM orchestration.processor_event AS o
         WHERE o.tenant_id = %(tenant_id)s AND o.received_at < %(before)s
         ORDER BY o.received_at LIMIT 50 FOR UPDATE SKIP LOCKED) AS over
 WHERE e.tenant_id = %(tenant_id)s AND e.processor_id = over.processor_id AND e.event_id = over.event_id;

-- @payment_of_attempt
SELECT payment_id FROM orchestration.attempt WHERE tenant_id = %(tenant_id)s AND attempt_id = %(attempt_id)s;
