Statements of journeys, as the services' role, for the tenant of the transaction.

-- @lock_journey
SELECT journey_type, journey_id, version, state, status, data, timers, done, undoing, ending, reason, deadline_at,
       correlation_id, step_count, started_at, updated_at, ended_at
  FROM mesh.journey
 WHERE tenant_id = %(tenant_id)s AND journey_type = %(journey_type)s AND journey_id = %(journey_id)s FOR UPDATE;

-- @claim_journey
-- Of two that start the same journey the second waits here for the first, and gets no row.
INSERT INTO mesh.journey (tenant_id, journey_type, journey_id, version, state, status, data, timers, done, undoing,
                          ending, reason, correlation_id, step_count, started_at, updated_at)
VALUES (%(tenant_id)s, %(journey_type)s, %(journey_id)s, %(version)s, '', 'running', '{}', '{}', '{}', '', '', '',
        %(correlation_id)s, 0, %(now)s, %(now)s)
ON CONFLICT DO NOTHING RETURNING journey_id;

-- @move_journey
UPDATE mesh.journey
   SET state = %(state)s, status = %(status)s, data = %(data)s, timers = %(timers)s, done = %(done)s,
       undoing = %(undoing)s, ending = %(ending)s, reason = %(reason)s, deadline_at = %(deadline_at)s,
       step_count = %(step_count)s, updated_at = %(updated_at)s, ended_at = %(ended_at)s
 WHERE tenant_id = %(tenant_id)s AND journey_type = %(journey_type)s AND journey_id = %(journey_id)s;

-- @add_step
INSERT INTO mesh.journey_step (tenant_id, journey_type, journey_id, kind, from_state, to_state, cause, cause_id, commands, at)
VALUES (%(tenant_id)s, %(journey_type)s, %(journey_id)s, %(kind)s, %(from_state)s, %(to_state)s, %(cause)s,
        %(cause_id)s, %(commands)s, %(at)s);

-- @get_journey
SELECT journey_type, journey_id, version, state, status, data, timers, done, undoing, ending, reason, deadline_at,
       correlation_id, step_count, started_at, updated_at, ended_at
  FROM mesh.journey
 WHERE tenant_id = %(tenant_id)s AND journey_type = %(journey_type)s AND journey_id = %(journey_id)s;

-- @last_steps
SELECT kind, from_state, to_state, cause, cause_id, commands, at
  FROM mesh.journey_step
 WHERE tenant_id = %(tenant_id)s AND journey_type = %(journey_type)s AND journey_id = %(journey_id)s
 ORDER BY step DESC LIMIT %(limit)s;

-- @list_journeys
SELECT journey_type, journey_id, version, state, status, data, timers, done, undoing, ending, reason, deadline_at,
       correlation_id, step_count, started_at, updated_at, ended_at
  FROM mesh.journey
 WHERE tenant_id = %(tenant_id)s AND journey_type >= %(first)s AND journey_type <= %(last)s
   AND (journey_type, journey_id) > (%(after_type)s, %(after_id)s)
   AND (%(state)s = '' OR state = %(state)s)
 ORDER BY journey_type, journey_id LIMIT %(limit)s;

-- @list_journeys_of_status
SELECT journey_type, journey_id, version, state, status, data, timers, done, undoing, ending, reason, deadline_at,
       correlation_id, step_count, started_at, updated_at, ended_at
  FROM mesh.journey
 WHERE tenant_id = %(tenant_id)s AND status = %(status)s AND journey_type >= %(first)s AND journey_type <= %(last)s
   AND (journey_type, journey_id) > (%(after_type)s, %(after_id)s)
   AND (%(state)s = '' OR state = %(state)s)
 ORDER BY journey_type, journey_id LIMIT %(limit)s;
