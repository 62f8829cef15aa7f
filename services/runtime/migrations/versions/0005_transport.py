"""Where an event came from, and how far a transport between databases has got.

A transport is part of the relay: its tables belong to it alone and name every tenant's events.
"""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0005"
down_revision = "0004"

# What the sink knows of each lane of its stream: the sequence of the last message that it has accounted for,
# and how many messages the lane has had in all.
_TAIL = """
CREATE TABLE mesh.transport_tail (
  stream     text        NOT NULL,
  lane       smallint    NOT NULL CHECK (lane BETWEEN 0 AND 255),
  sequence   bigint      NOT NULL,
  number     bigint      NOT NULL,
  settled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (stream, lane)
) WITH (fillfactor = 50)
"""

# How far a source has read a share of another site's stream. It moves in the transaction that takes the events in.
_POSITION = """
CREATE TABLE mesh.transport_position (
  site           text        NOT NULL,
  share          smallint    NOT NULL,
  stream_made_at timestamptz NOT NULL,
  sequence       bigint      NOT NULL,
  numbers        bigint[]    NOT NULL,
  taken_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (site, share)
) WITH (fillfactor = 50)
"""

# What a source did not take in, kept for somebody to look at.
_REFUSAL = """
CREATE TABLE mesh.transport_refusal (
  site           text        NOT NULL,
  stream_made_at timestamptz NOT NULL,
  sequence       bigint      NOT NULL,
  reason         text        NOT NULL CHECK (reason IN ('CONFLICT', 'UNREADABLE', 'LOST')),
  tenant_id      text        NOT NULL,
  event_id       text        NOT NULL,
  detail         text        NOT NULL,
  headers        jsonb       NOT NULL,
  payload        bytea       NOT NULL,
  recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (site, stream_made_at, sequence, reason)
)
"""


def upgrade() -> None:
    """Make them."""
    names = schema.role_names(op)
    # A constant default costs no rewrite, however long the log is.
    op.execute("ALTER TABLE mesh.event ADD COLUMN origin text NOT NULL DEFAULT ''")
    op.execute(f'GRANT INSERT (origin) ON mesh.event TO "{names.service}"')
    # The sink sends the fingerprint of an event's content along.
    schema.open_to_relay(op, "mesh", "event_identity")
    for table, statement, privileges in (
        ("transport_tail", _TAIL, ("SELECT", "INSERT", "UPDATE")),
        ("transport_position", _POSITION, ("SELECT", "INSERT", "UPDATE")),
        ("transport_refusal", _REFUSAL, schema.APPEND_ONLY),
    ):
        op.execute(statement)
        schema.open_to_relay(op, "mesh", table, privileges=privileges)


def downgrade() -> None:
    """Remove them. Events that came from elsewhere stay, as if they had been born here."""
    names = schema.role_names(op)
    op.execute("DROP TABLE mesh.transport_refusal, mesh.transport_position, mesh.transport_tail")
    op.execute("DROP POLICY relay_select ON mesh.event_identity")
    op.execute(f'REVOKE SELECT ON mesh.event_identity FROM "{names.relay}"')
    op.execute("ALTER TABLE mesh.event DROP COLUMN origin")
