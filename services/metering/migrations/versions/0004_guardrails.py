"""Budgets, what counts against them, and holds."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0004"
down_revision = "0003"

_BUDGET = """
CREATE TABLE metering.budget (
  tenant_id         text COLLATE "C" NOT NULL,
  budget_id         text COLLATE "C" NOT NULL,
  series            uuid             NOT NULL,
  org_id            text COLLATE "C" NOT NULL,
  sku               text COLLATE "C" NOT NULL,
  period            text             NOT NULL CHECK (period IN ('CALENDAR_MONTH', 'DAY', 'TOTAL')),
  time_zone         text             NOT NULL,
  limit_value       numeric          NOT NULL CHECK (limit_value >= 0),
  currency_code     text             NOT NULL,
  mode              text             NOT NULL CHECK (mode IN ('SOFT', 'HARD')),
  thresholds_pct    integer[]        NOT NULL,
  enforce_in_ingest boolean          NOT NULL CHECK (mode = 'HARD' OR NOT enforce_in_ingest),
  description       text             NOT NULL,
  created_at        timestamptz      NOT NULL,
  updated_at        timestamptz      NOT NULL,
  PRIMARY KEY (tenant_id, budget_id),
  UNIQUE (tenant_id, series)
)
"""

# Counts the changes of a tenant's budgets: whoever remembers them asks by it whether they still stand.
_BUDGET_VERSION = """
CREATE TABLE metering.budget_version (
  tenant_id text COLLATE "C" NOT NULL PRIMARY KEY,
  version   bigint           NOT NULL
)
"""

# One row a budget and period, locked by whoever counts: what is free is never taken twice. Its updates touch no index
# and find half a page empty, so that a hot row stays on its page.
_BUDGET_USE = """
CREATE TABLE metering.budget_use (
  tenant_id  text COLLATE "C" NOT NULL,
  series     uuid             NOT NULL,
  start_at   timestamptz      NOT NULL,
  used       numeric          NOT NULL CHECK (used >= 0),
  held       numeric          NOT NULL CHECK (held >= 0),
  told       integer[]        NOT NULL,
  quantities jsonb            NOT NULL,
  PRIMARY KEY (tenant_id, series, start_at)
) WITH (fillfactor = 50)
"""

# Due work while it is open: due_at is its end then.
_HOLD = """
CREATE TABLE metering.hold (
  tenant_id      text COLLATE "C" NOT NULL,
  hold_id        uuid             NOT NULL,
  org_id         text COLLATE "C" NOT NULL,
  sku            text COLLATE "C" NOT NULL,
  quantity       numeric          NOT NULL CHECK (quantity > 0),
  status         text             NOT NULL CHECK (status IN ('HELD', 'COMMITTED', 'RELEASED', 'EXPIRED')),
  accounted      numeric          NOT NULL CHECK (accounted >= 0),
  reported       numeric          NOT NULL CHECK (reported >= 0),
  shares         jsonb            NOT NULL,
  reserved_at    timestamptz      NOT NULL,
  expires_at     timestamptz      NOT NULL,
  ended_at       timestamptz,
  due_at         timestamptz,
  lease_owner    text,
  lease_until    timestamptz,
  epoch          bigint           NOT NULL DEFAULT 0,
  tries          integer          NOT NULL DEFAULT 0,
  correlation_id text             NOT NULL,
  causation_id   text             NOT NULL,
  traceparent    text             NOT NULL,
  PRIMARY KEY (tenant_id, hold_id),
  CHECK ((status = 'HELD') = (ended_at IS NULL)),
  CHECK ((status = 'HELD') = (due_at IS NOT NULL))
)
"""

# Fails as a conflict of transactions does, so that what was judged by other budgets is judged again.
_SAME_BUDGETS = """
CREATE FUNCTION metering.same_budgets(p_version bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_version <> coalesce(
      (SELECT v.version FROM metering.budget_version v WHERE v.tenant_id = mesh.current_tenant()), 0) THEN
    RAISE EXCEPTION 'the budgets have changed' USING ERRCODE = 'serialization_failure';
  END IF;
END $$
"""

_UP = (
    _BUDGET,
    _BUDGET_VERSION,
    _BUDGET_USE,
    _HOLD,
    "CREATE INDEX budget_by_org ON metering.budget (tenant_id, org_id, budget_id)",
    "CREATE INDEX hold_due ON metering.hold (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX hold_open ON metering.hold (tenant_id, hold_id) WHERE status = 'HELD'",
    _SAME_BUDGETS,
)


def upgrade() -> None:
    """Make the tables; holds are handed out to whoever ends what is over."""
    for statement in _UP:
        op.execute(statement)
    schema.protect(op, "metering", "budget")
    schema.protect(op, "metering", "budget_use")
    for table in ("budget_version", "hold"):
        schema.protect(op, "metering", table, privileges=("SELECT", "INSERT", "UPDATE"))
    schema.queue(op, "metering", "hold", "hold_id", traced=True, name="due_holds")
    schema.grant_function(op, "metering.same_budgets(bigint)")


def downgrade() -> None:
    """Drop them, with every budget and hold; usage is untouched."""
    schema.drop_queue(op, "metering", name="due_holds")
    op.execute("DROP FUNCTION metering.same_budgets(bigint)")
    for table in ("hold", "budget_use", "budget_version", "budget"):
        op.execute(f"DROP TABLE metering.{table}")
