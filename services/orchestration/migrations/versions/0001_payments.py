"""Merchant configurations, payments with their steps and attempts, and the books of the sandbox processors."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

_MERCHANT_CONFIG = """
CREATE TABLE orchestration.merchant_config (
  tenant_id                  text        NOT NULL,
  merchant_id                text        NOT NULL,
  version                    integer     NOT NULL CHECK (version >= 1),
  methods                    jsonb       NOT NULL,
  attempts_per_processor_max integer     NOT NULL CHECK (attempts_per_processor_max >= 1),
  call_timeout_ms            integer     NOT NULL CHECK (call_timeout_ms >= 1),
  partial_allowed            boolean     NOT NULL,
  created_at                 timestamptz NOT NULL,
  created_by                 text        NOT NULL,
  PRIMARY KEY (tenant_id, merchant_id, version)
)
"""

_PAYMENT = """
CREATE TABLE orchestration.payment (
  tenant_id      text        NOT NULL,
  payment_id     text        NOT NULL,
  request_key    uuid        NOT NULL,
  request_hash   bytea       NOT NULL CHECK (octet_length(request_hash) = 32),
  merchant_id    text        NOT NULL,
  order_id       text        NOT NULL,
  person_id      text        NOT NULL,
  currency       text        NOT NULL,
  total_minor    bigint      NOT NULL CHECK (total_minor >= 0),
  context        jsonb       NOT NULL,
  plan_id        text        NOT NULL,
  config_version integer     NOT NULL,
  status         text        NOT NULL CHECK (status IN ('PENDING', 'RESOLVING', 'COMPENSATING',
                   'COMPENSATION_STUCK', 'SUCCEEDED', 'PARTIALLY_PAID', 'FAILED', 'REFUSED')),
  correlation_id text        NOT NULL,
  -- Work is due from here on (business time); nothing is to be done when it is null.
  due_at         timestamptz,
  -- Leases count in the database's own time.
  lease_owner    text,
  lease_until    timestamptz,
  fence          bigint      NOT NULL DEFAULT 1,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, payment_id),
  UNIQUE (tenant_id, request_key),
  CHECK (status NOT IN ('SUCCEEDED', 'PARTIALLY_PAID', 'FAILED', 'REFUSED') OR due_at IS NULL)
)
"""

_STEP = """
CREATE TABLE orchestration.step (
  tenant_id    text    NOT NULL,
  payment_id   text    NOT NULL,
  step_index   integer NOT NULL CHECK (step_index >= 0),
  method       text    NOT NULL,
  amount_minor bigint  NOT NULL CHECK (amount_minor > 0),
  processors   text[]  NOT NULL CHECK (cardinality(processors) >= 1),
  token        text    NOT NULL,
  PRIMARY KEY (tenant_id, payment_id, step_index),
  FOREIGN KEY (tenant_id, payment_id) REFERENCES orchestration.payment
)
"""

# The database checks what the planner promises, once the payment and all its steps are written.
_STEPS_SUM = """
CREATE FUNCTION orchestration.check_steps_sum() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  IF NEW.status <> 'REFUSED' AND NEW.total_minor IS DISTINCT FROM (
    SELECT sum(s.amount_minor) FROM orchestration.step s
     WHERE s.tenant_id = NEW.tenant_id AND s.payment_id = NEW.payment_id)
  THEN
    RAISE check_violation USING MESSAGE = format('the steps of %s do not sum to its total', NEW.payment_id);
  END IF;
  RETURN NULL;
END
$body$
"""

_STEPS_SUM_TRIGGER = """
CREATE CONSTRAINT TRIGGER steps_sum AFTER INSERT ON orchestration.payment
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION orchestration.check_steps_sum()
"""

_ATTEMPT = """
CREATE TABLE orchestration.attempt (
  tenant_id       text        NOT NULL,
  attempt_id      text        NOT NULL,
  payment_id      text        NOT NULL,
  ordinal         integer     NOT NULL,
  step_index      integer     NOT NULL,
  number          integer     NOT NULL CHECK (number >= 1),
  operation       text        NOT NULL CHECK (operation IN ('CHARGE', 'REFUND')),
  parent_id       text        NOT NULL CHECK ((operation = 'REFUND') = (parent_id <> '')),
  processor_id    text        NOT NULL,
  amount_minor    bigint      NOT NULL CHECK (amount_minor > 0),
  idempotency_key text        NOT NULL CHECK (length(idempotency_key) BETWEEN 16 AND 64),
  status          text        NOT NULL CHECK (status IN ('CREATED', 'SENT', 'SUCCEEDED', 'DECLINED',
                    'PENDING', 'UNKNOWN', 'NOT_CHARGED', 'NOT_SENT', 'VOIDED_UNSENT')),
  error_code      text        NOT NULL,
  failure_code    text        NOT NULL,
  retryable       boolean     NOT NULL,
  provider_ref    text        NOT NULL,
  message         text        NOT NULL,
  latency_ms      bigint      NOT NULL,
  created_at      timestamptz NOT NULL,
  sent_at         timestamptz,
  settled_at      timestamptz,
  verify_count    integer     NOT NULL,
  not_found_count integer     NOT NULL,
  verify_after    timestamptz,
  PRIMARY KEY (tenant_id, attempt_id),
  UNIQUE (tenant_id, payment_id, ordinal),
  UNIQUE (tenant_id, idempotency_key),
  FOREIGN KEY (tenant_id, payment_id, step_index) REFERENCES orchestration.step,
  CHECK (status NOT IN ('UNKNOWN', 'PENDING') OR verify_after IS NOT NULL)
)
"""

# The guard: no step is charged anywhere while an earlier attempt has charged it, or may have.
_ONE_LIVE_CHARGE = """
CREATE UNIQUE INDEX one_live_charge ON orchestration.attempt (tenant_id, payment_id, step_index)
 WHERE operation = 'CHARGE' AND status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED')
"""

# Its twin: no charge is given back twice.
_ONE_LIVE_REFUND = """
CREATE UNIQUE INDEX one_live_refund ON orchestration.attempt (tenant_id, parent_id)
 WHERE operation = 'REFUND' AND status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED')
"""

# Work of every tenant is found by the owner's rights; what comes out are ids to be worked on as their tenant.
_CLAIM_DUE = """
CREATE FUNCTION orchestration.claim_due(
  p_due_at timestamptz, p_owner text, p_lease_ms integer, p_batch integer,
  OUT tenant_id text, OUT payment_id text, OUT fence bigint, OUT correlation_id text
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE orchestration.payment p
     SET lease_owner = p_owner,
         lease_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0),
         fence = p.fence + 1
    FROM (SELECT d.tenant_id, d.payment_id
            FROM orchestration.payment d
           WHERE d.due_at <= p_due_at
             AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
           ORDER BY d.due_at LIMIT p_batch FOR UPDATE SKIP LOCKED) due
   WHERE p.tenant_id = due.tenant_id AND p.payment_id = due.payment_id
  RETURNING p.tenant_id, p.payment_id, p.fence, p.correlation_id;
END
"""

_SANDBOX_ORDER = """
CREATE TABLE orchestration.sandbox_order (
  tenant_id       text        NOT NULL,
  processor_id    text        NOT NULL,
  idempotency_key text        NOT NULL,
  merchant_ref    text        NOT NULL,
  operation       text        NOT NULL CHECK (operation IN ('CHARGE', 'REFUND')),
  charge_key      text        NOT NULL,
  amount_minor    bigint      NOT NULL,
  currency        text        NOT NULL,
  token           text        NOT NULL,
  done            boolean     NOT NULL,
  error_code      text        NOT NULL,
  failure_code    text        NOT NULL,
  retryable       boolean     NOT NULL,
  provider_ref    text        NOT NULL,
  message         text        NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, processor_id, idempotency_key),
  UNIQUE (tenant_id, processor_id, merchant_ref)
)
"""

_INDEXES = (
    "CREATE INDEX payment_due ON orchestration.payment (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX payment_order ON orchestration.payment (tenant_id, order_id, payment_id)",
    "CREATE INDEX payment_merchant ON orchestration.payment (tenant_id, merchant_id, payment_id)",
    _ONE_LIVE_CHARGE,
    _ONE_LIVE_REFUND,
)


def upgrade() -> None:
    """Make them."""
    for statement in (_MERCHANT_CONFIG, _PAYMENT, _STEP, _ATTEMPT, _SANDBOX_ORDER, *_INDEXES):
        op.execute(statement)
    for statement in (_STEPS_SUM, _STEPS_SUM_TRIGGER, _CLAIM_DUE):
        op.execute(statement)
    signature = "orchestration.claim_due(timestamptz, text, integer, integer)"
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION {signature} TO "{schema.role_names(op).service}"')
    change = ("SELECT", "INSERT", "UPDATE")
    for table, privileges in (
        ("merchant_config", schema.APPEND_ONLY),
        ("payment", change),
        ("step", schema.APPEND_ONLY),
        ("attempt", change),
        # Locking a charge while it is given back needs UPDATE; nothing is ever changed.
        ("sandbox_order", change),
    ):
        schema.protect(op, "orchestration", table, privileges=privileges)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP FUNCTION orchestration.claim_due(timestamptz, text, integer, integer)")
    for table in ("sandbox_order", "attempt", "step", "payment", "merchant_config"):
        op.execute(f"DROP TABLE orchestration.{table}")
    op.execute("DROP FUNCTION orchestration.check_steps_sum()")
