"""What processors did waits here until it is in the books, one row an attempt."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0008"
down_revision = "0007"

# What is posted stands in the payment and its attempt, which do not change any more. `earlier`: a ledger of the release
# before, which books by itself, may have booked it.
_BOOKING = """
CREATE TABLE orchestration.booking (
  tenant_id      text        NOT NULL,
  attempt_id     text        NOT NULL,
  payment_id     text        NOT NULL,
  earlier        boolean     NOT NULL,
  due_at         timestamptz,
  lease_owner    text,
  lease_until    timestamptz,
  epoch          bigint      NOT NULL DEFAULT 0,
  tries          integer     NOT NULL DEFAULT 0,
  correlation_id text        NOT NULL,
  causation_id   text        NOT NULL DEFAULT '',
  traceparent    text        NOT NULL DEFAULT '',
  created_at     timestamptz NOT NULL,
  posting_id     uuid,
  transfer_id    uuid,
  booked_minor   bigint,
  booked_at      timestamptz,
  PRIMARY KEY (tenant_id, attempt_id),
  FOREIGN KEY (tenant_id, attempt_id) REFERENCES orchestration.attempt (tenant_id, attempt_id),
  CHECK ((due_at IS NULL) = (booked_at IS NOT NULL)),
  CHECK (num_nonnulls(posting_id, transfer_id) = num_nonnulls(booked_at)),
  CHECK (num_nonnulls(booked_minor) = num_nonnulls(booked_at))
)
"""
_INDEXES = (
    "CREATE INDEX booking_due ON orchestration.booking (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX booking_of_payment ON orchestration.booking (tenant_id, payment_id)",
)

# A hundred a second, the oldest first, so that what is charged from now on does not wait behind the past.
_PAST = """
INSERT INTO orchestration.booking
      (tenant_id, attempt_id, payment_id, earlier, due_at, correlation_id, causation_id, traceparent, created_at)
SELECT a.tenant_id, a.attempt_id, a.payment_id, true,
       now() + interval '10 ms' * row_number() OVER (ORDER BY a.settled_at, a.attempt_id),
       p.correlation_id, p.causation_id, p.traceparent, now()
  FROM orchestration.attempt a
  JOIN orchestration.payment p ON p.tenant_id = a.tenant_id AND p.payment_id = a.payment_id
 WHERE a.status = 'SUCCEEDED'
"""

# A process of the release before that still runs settles attempts and knows of no bookings; those of this release
# store theirs first.
_OF_BEFORE = """
CREATE FUNCTION orchestration.book_settled() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  INSERT INTO orchestration.booking
        (tenant_id, attempt_id, payment_id, earlier, due_at, correlation_id, causation_id, traceparent, created_at)
  SELECT NEW.tenant_id, NEW.attempt_id, NEW.payment_id, true, coalesce(NEW.settled_at, now()),
         p.correlation_id, p.causation_id, p.traceparent, now()
    FROM orchestration.payment p WHERE p.tenant_id = NEW.tenant_id AND p.payment_id = NEW.payment_id
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$body$
"""
_TRIGGER = """
CREATE TRIGGER book_settled AFTER UPDATE OF status ON orchestration.attempt
   FOR EACH ROW WHEN (NEW.status = 'SUCCEEDED' AND OLD.status <> 'SUCCEEDED')
   EXECUTE FUNCTION orchestration.book_settled()
"""


def upgrade() -> None:
    """Make the table, and put all into it that processors ever did: the ledger is asked what it has of it."""
    for statement in (_BOOKING, *_INDEXES):
        op.execute(statement)
    schema.protect(op, "orchestration", "booking", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.queue(op, "orchestration", "booking", "attempt_id", traced=True, name="booking")
    # Before the past is looked at: it takes a lock behind which who settles an attempt waits.
    for statement in (_OF_BEFORE, _TRIGGER, _PAST):
        op.execute(statement)


def downgrade() -> None:
    """Drop it. What is posted is found again by what it was posted for."""
    op.execute("DROP TRIGGER book_settled ON orchestration.attempt")
    op.execute("DROP FUNCTION orchestration.book_settled()")
    schema.drop_queue(op, "orchestration", name="booking")
    op.execute("DROP TABLE orchestration.booking")
