"""Commissions, how parties stand, sweeps and payouts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

_QUEUE = """
  due_at         timestamptz,
  lease_owner    text,
  lease_until    timestamptz,
  epoch          bigint      NOT NULL DEFAULT 0,
  tries          integer     NOT NULL DEFAULT 0,
  correlation_id text        NOT NULL DEFAULT '',
  causation_id   text        NOT NULL DEFAULT '',
  traceparent    text        NOT NULL DEFAULT '',
"""

_POLICY = """
CREATE TABLE settlement.policy (
  tenant_id            text        NOT NULL,
  seller               text        NOT NULL,
  threshold_currencies text[]      NOT NULL,
  thresholds_minor     bigint[]    NOT NULL,
  threshold_first      text        NOT NULL,
  minimum_currencies   text[]      NOT NULL,
  minimums_minor       bigint[]    NOT NULL,
  sweep                text        NOT NULL,
  time_zone            text        NOT NULL,
  sweep_paused         boolean     NOT NULL,
  updated_at           timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, seller)
)
"""

# A charge whose lines are to be taken in, from its event until they are.
_INTAKE = f"""
CREATE TABLE settlement.intake (
  tenant_id      text        NOT NULL,
  charge_id      text        NOT NULL,
{_QUEUE}
  created_at     timestamptz NOT NULL,
  taken_at       timestamptz,
  PRIMARY KEY (tenant_id, charge_id),
  CHECK ((due_at IS NULL) = (taken_at IS NOT NULL))
)
"""

_EARNING = """
CREATE TABLE settlement.earning (
  tenant_id     text        NOT NULL,
  charge_id     text        NOT NULL,
  line_no       integer     NOT NULL CHECK (line_no > 0),
  org_id        text        NOT NULL,
  sku           text        NOT NULL,
  party         text        NOT NULL,
  currency_code text        NOT NULL,
  amount_minor  bigint      NOT NULL,
  dispute_id    text        NOT NULL,
  earned_at     timestamptz NOT NULL,
  payout_id     text        NOT NULL,
  recorded_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, charge_id, line_no),
  FOREIGN KEY (tenant_id, charge_id) REFERENCES settlement.intake,
  CHECK (payout_id = '' OR (dispute_id = '' AND amount_minor > 0))
)
"""

# What is held under a dispute has a row of its own, of which nothing is paid.
# Keys have one order, wherever they are sorted.
_BALANCE = """
CREATE TABLE settlement.balance (
  tenant_id     text        NOT NULL,
  party         text        COLLATE "C" NOT NULL,
  currency_code text        COLLATE "C" NOT NULL,
  dispute_id    text        COLLATE "C" NOT NULL,
  earned_minor  bigint      NOT NULL,
  claimed_minor bigint      NOT NULL DEFAULT 0 CHECK (claimed_minor >= 0),
  paid_minor    bigint      NOT NULL DEFAULT 0 CHECK (paid_minor >= 0),
  updated_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, party, currency_code, dispute_id),
  CHECK (dispute_id = '' OR (claimed_minor = 0 AND paid_minor = 0))
) WITH (fillfactor = 80)
"""

_SWEEP = f"""
CREATE TABLE settlement.sweep (
  tenant_id      text        NOT NULL,
  sweep_id       text        NOT NULL,
  status         smallint    NOT NULL CHECK (status IN (1, 2, 3)),
  scheduled      boolean     NOT NULL,
{_QUEUE}
  through_at     timestamptz,
  created_at     timestamptz NOT NULL,
  started_at     timestamptz,
  ended_at       timestamptz,
  after_party    text        NOT NULL DEFAULT '',
  after_currency text        NOT NULL DEFAULT '',
  payout_count   bigint      NOT NULL DEFAULT 0,
  totals         jsonb       NOT NULL DEFAULT '{{}}',
  PRIMARY KEY (tenant_id, sweep_id),
  CHECK ((status = 1) = (started_at IS NULL)),
  CHECK ((status = 1) = (through_at IS NULL)),
  CHECK ((status = 3) = (ended_at IS NOT NULL)),
  CHECK (status < 3 OR due_at IS NULL),
  CHECK (status <> 2 OR due_at IS NOT NULL)
)
"""

_PAYOUT = """
CREATE TABLE settlement.payout (
  tenant_id         text        NOT NULL,
  payout_id         text        NOT NULL,
  party             text        NOT NULL,
  currency_code     text        NOT NULL,
  amount_minor      bigint      NOT NULL CHECK (amount_minor > 0),
  kind              smallint    NOT NULL CHECK (kind IN (1, 2, 3)),
  status            smallint    NOT NULL CHECK (status IN (1, 2, 3, 4)),
  destination       text        NOT NULL,
  charge_id         text        NOT NULL,
  line_no           integer     NOT NULL,
  sweep_id          text        NOT NULL,
  created_at        timestamptz NOT NULL,
  claimed_at        timestamptz,
  paid_at           timestamptz,
  returned_at       timestamptz,
  payment_reference text        NOT NULL DEFAULT '',
  return_code       text        NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, payout_id),
  CHECK ((kind = 1) = (charge_id <> '')),
  CHECK ((kind = 2) = (sweep_id <> '')),
  CHECK ((status = 1) = (claimed_at IS NULL)),
  CHECK (status <> 3 OR paid_at IS NOT NULL),
  CHECK ((status = 4) = (returned_at IS NOT NULL))
)
"""

_POSTING = f"""
CREATE TABLE settlement.posting (
  tenant_id      text        NOT NULL,
  item_id        text        NOT NULL,
  payout_id      text        NOT NULL,
  leg            smallint    NOT NULL CHECK (leg IN (1, 2, 3)),
  effective_at   timestamptz NOT NULL,
  was_paid       boolean     NOT NULL,
{_QUEUE}
  created_at     timestamptz NOT NULL,
  posting_id     uuid,
  posted_at      timestamptz,
  PRIMARY KEY (tenant_id, item_id),
  FOREIGN KEY (tenant_id, payout_id) REFERENCES settlement.payout,
  CHECK ((due_at IS NULL) = (posted_at IS NOT NULL)),
  CHECK ((posting_id IS NULL) = (posted_at IS NULL))
)
"""

_INDEXES = (
    "CREATE INDEX intake_due ON settlement.intake (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX intake_open ON settlement.intake (tenant_id) WHERE taken_at IS NULL",
    "CREATE INDEX earning_by_time ON settlement.earning (tenant_id, earned_at DESC, charge_id DESC, line_no DESC)",
    "CREATE INDEX earning_by_party"
    " ON settlement.earning (tenant_id, party, earned_at DESC, charge_id DESC, line_no DESC)",
    "CREATE INDEX earning_by_dispute"
    " ON settlement.earning (tenant_id, dispute_id, earned_at DESC, charge_id DESC, line_no DESC)"
    " WHERE dispute_id <> ''",
    "CREATE INDEX sweep_due ON settlement.sweep (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX sweep_by_time ON settlement.sweep (tenant_id, created_at DESC, sweep_id DESC)",
    # Of those by schedule one waits.
    "CREATE UNIQUE INDEX sweep_waiting ON settlement.sweep (tenant_id) WHERE status = 1",
    "CREATE INDEX payout_by_time ON settlement.payout (tenant_id, created_at DESC, payout_id DESC)",
    "CREATE INDEX payout_by_party ON settlement.payout (tenant_id, party, created_at DESC, payout_id DESC)",
    "CREATE INDEX payout_by_status ON settlement.payout (tenant_id, status, created_at DESC, payout_id DESC)",
    "CREATE INDEX payout_of_sweep ON settlement.payout (tenant_id, sweep_id, created_at DESC, payout_id DESC)"
    " WHERE sweep_id <> ''",
    "CREATE INDEX payout_of_charge ON settlement.payout (tenant_id, charge_id, created_at DESC, payout_id DESC)"
    " WHERE charge_id <> ''",
    "CREATE INDEX posting_due ON settlement.posting (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX posting_of_payout ON settlement.posting (tenant_id, payout_id)",
    "CREATE INDEX posting_open ON settlement.posting (tenant_id) WHERE posted_at IS NULL",
)

_LEASE = "due_at, lease_owner, lease_until"
# What may change of rows that stay. Commissions are facts.
_CHANGING = {
    "policy": "threshold_currencies, thresholds_minor, threshold_first, minimum_currencies, minimums_minor, sweep,"
    " time_zone, sweep_paused, updated_at",
    "intake": f"{_LEASE}, taken_at",
    "balance": "earned_minor, claimed_minor, paid_minor, updated_at",
    "sweep": f"{_LEASE}, status, through_at, started_at, ended_at, after_party, after_currency, payout_count, totals",
    "payout": "status, claimed_at, paid_at, returned_at, payment_reference, return_code",
    "posting": f"{_LEASE}, posting_id, posted_at",
}
_QUEUES = {"intake": "charge_id", "sweep": "sweep_id", "posting": "item_id"}
_TABLES = ("policy", "intake", "earning", "balance", "sweep", "payout", "posting")

_IN_USE = sa.text(
    "SELECT EXISTS (SELECT FROM settlement.earning)"
    " OR EXISTS (SELECT FROM settlement.intake WHERE taken_at IS NULL)"
)


def upgrade() -> None:
    """Create the tables."""
    for statement in (_POLICY, _INTAKE, _EARNING, _BALANCE, _SWEEP, _PAYOUT, _POSTING, *_INDEXES):
        op.execute(statement)
    service = schema.role_names(op).service
    for table in _TABLES:
        schema.protect(op, "settlement", table, privileges=schema.APPEND_ONLY)
        if table in _CHANGING:
            op.execute(f'GRANT UPDATE ({_CHANGING[table]}) ON settlement.{table} TO "{service}"')
    for table, item in _QUEUES.items():
        schema.queue(op, "settlement", table, item, traced=True, name=table)


def downgrade() -> None:
    """Drop them, and take the consumer off the log.

    Raises:
        RuntimeError: there are commissions, or charges on their way here. The log would not bring them again.
    """
    if op.get_bind().execute(_IN_USE).scalar_one():
        raise RuntimeError(
            "settlement keeps what partners earned and were paid, which the log of events does not bring again: it"
            " cannot be gone back to a release without it"
        )
    schema.drop_consumer(op, "settlement.commissions")
    for table in _QUEUES:
        schema.drop_queue(op, "settlement", name=table)
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE settlement.{table}")
