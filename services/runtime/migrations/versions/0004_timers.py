"""Timers, schedules and journeys.

A timer and a schedule hold the event that they become, ready to be written: who fires it need not know its
payload. Services write them for their own tenant; the relay only looks up who is due.
"""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0004"
down_revision = "0003"

# Rows come and go, so a vacuum comes early. Keys are compared byte by byte: a prefix is a range of the index.
_TIMER = """
CREATE TABLE mesh.timer (
  tenant_id      text        NOT NULL,
  key            text        NOT NULL COLLATE "C" CHECK (char_length(key) BETWEEN 1 AND 400),
  timer_id       text        NOT NULL CHECK (char_length(timer_id) BETWEEN 1 AND 128),
  due_at         timestamptz NOT NULL,
  subject        text        NOT NULL,
  schema_version int         NOT NULL CHECK (schema_version > 0),
  event_key      text        NOT NULL,
  message_name   text        NOT NULL,
  payload        bytea       NOT NULL,
  correlation_id text        NOT NULL,
  causation_id   text        NOT NULL,
  traceparent    text        NOT NULL,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key),
  UNIQUE (tenant_id, timer_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)
"""

_SCHEDULE = """
CREATE TABLE mesh.schedule (
  tenant_id      text        NOT NULL,
  name           text        NOT NULL COLLATE "C" CHECK (char_length(name) BETWEEN 1 AND 100),
  cron           text        NOT NULL,
  time_zone      text        NOT NULL,
  missed         text        NOT NULL CHECK (missed IN ('skip', 'one', 'backfill')),
  subject        text        NOT NULL,
  schema_version int         NOT NULL CHECK (schema_version > 0),
  event_key      text        NOT NULL,
  message_name   text        NOT NULL,
  payload        bytea       NOT NULL,
  next_at        timestamptz NOT NULL,
  last_at        timestamptz,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name)
) WITH (fillfactor = 70)
"""

# The guard: one fire of a schedule makes one event, whoever computes it.
_SCHEDULE_FIRE = """
CREATE TABLE mesh.schedule_fire (
  tenant_id text        NOT NULL,
  name      text        NOT NULL COLLATE "C",
  fire_at   timestamptz NOT NULL,
  event_id  text        NOT NULL,
  PRIMARY KEY (tenant_id, name, fire_at)
)
"""

_JOURNEY = """
CREATE TABLE mesh.journey (
  tenant_id      text        NOT NULL,
  journey_type   text        NOT NULL COLLATE "C" CHECK (char_length(journey_type) BETWEEN 1 AND 64),
  journey_id     text        NOT NULL COLLATE "C" CHECK (char_length(journey_id) BETWEEN 1 AND 128),
  version        int         NOT NULL CHECK (version > 0),
  state          text        NOT NULL,
  status         text        NOT NULL
                 CHECK (status IN ('running', 'compensating', 'completed', 'failed', 'cancelled')),
  data           text        NOT NULL,
  timers         jsonb       NOT NULL,
  done           text[]      NOT NULL,
  undoing        text        NOT NULL,
  ending         text        NOT NULL,
  reason         text        NOT NULL,
  deadline_at    timestamptz,
  correlation_id text        NOT NULL,
  step_count     bigint      NOT NULL,
  started_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  ended_at       timestamptz,
  PRIMARY KEY (tenant_id, journey_type, journey_id)
) WITH (fillfactor = 70)
"""

# No reference to the journey: an event for one that there is not leaves its trace too.
_JOURNEY_STEP = """
CREATE TABLE mesh.journey_step (
  tenant_id    text        NOT NULL,
  journey_type text        NOT NULL COLLATE "C",
  journey_id   text        NOT NULL COLLATE "C",
  step         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
  kind         text        NOT NULL,
  from_state   text        NOT NULL,
  to_state     text        NOT NULL,
  cause        text        NOT NULL,
  cause_id     text        NOT NULL,
  commands     text        NOT NULL,
  at           timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, journey_type, journey_id, step)
)
"""


def upgrade() -> None:
    """Make them."""
    for statement in (_TIMER, _SCHEDULE, _SCHEDULE_FIRE, _JOURNEY, _JOURNEY_STEP):
        op.execute(statement)
    # What is due next, of all; and who has something due.
    op.execute("CREATE INDEX timer_due ON mesh.timer (due_at)")
    op.execute("CREATE INDEX timer_tenant_due ON mesh.timer (tenant_id, due_at, timer_id)")
    op.execute("CREATE INDEX schedule_due ON mesh.schedule (next_at)")
    op.execute("CREATE INDEX schedule_tenant_due ON mesh.schedule (tenant_id, next_at)")
    op.execute(
        "CREATE INDEX journey_status ON mesh.journey (tenant_id, status, journey_type, journey_id)"
    )
    for table in ("timer", "schedule"):
        schema.protect(op, "mesh", table)
        schema.open_to_relay(op, "mesh", table)
    schema.protect(op, "mesh", "schedule_fire", privileges=("SELECT", "INSERT", "DELETE"))
    schema.protect(op, "mesh", "journey", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.protect(op, "mesh", "journey_step", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Remove them, and every event that was yet to come."""
    op.execute("DROP TABLE mesh.journey_step, mesh.journey")
    op.execute("DROP TABLE mesh.schedule_fire, mesh.schedule, mesh.timer")
