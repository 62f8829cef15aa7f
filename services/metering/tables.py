"""Tables of schema `metering`; the migrations create them. All statements are in `queries.sql`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType

metadata = MetaData(schema="metering")


class Snapshot(UserDefinedType[str]):
    """`pg_snapshot`: which transactions were visible at a moment."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Name the type in DDL."""
        return "pg_snapshot"


class TransactionId(UserDefinedType[str]):
    """`xid8`: a transaction id that never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Name the type in DDL."""
        return "xid8"


# Fixed widths first: no padding between columns, 5 % of the row.
usage_event = Table(
    "usage_event",
    metadata,
    Column("event_time", DateTime(timezone=True), nullable=False),
    # Which transaction stored it: what a snapshot did not contain became visible later.
    Column("recorded_xid", TransactionId, nullable=False),
    # BLAKE2b of the request_id. Sixteen bytes, because random texts as a key cost a quarter of the
    # insert rate at ten million rows.
    Column("event_key", Uuid, primary_key=True),
    # BLAKE2b of the content: the same id with another one is a conflict.
    Column("fingerprint", Uuid, nullable=False),
    Column("receipt_id", Uuid, nullable=False),
    Column("source", SmallInteger, nullable=False),
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), nullable=False),
    Column("project_id", Text(collation="C"), nullable=False),
    Column("sku", Text(collation="C"), nullable=False),
    Column("request_id", Text(collation="C"), nullable=False),
    Column("quantity", Numeric(38, 18), nullable=False),
    Column("metadata", JSONB),
)

receipt = Table(
    "receipt",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("receipt_id", Uuid, primary_key=True),
    Column("accepted", Integer, nullable=False),
    Column("duplicate", Integer, nullable=False),
    Column("conflict", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    # Of the accepted events; null when there is none.
    Column("first_event_at", DateTime(timezone=True)),
    Column("last_event_at", DateTime(timezone=True)),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("recorded_by", Text, nullable=False),
)

rejected_event = Table(
    "rejected_event",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("receipt_id", Uuid, primary_key=True),
    Column("event_index", Integer, primary_key=True),
    # For people to find it by: cut to 128 characters, NUL taken out.
    Column("request_id", Text(collation="C"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    # The UsageEvent, byte for byte; without its metadata and with its texts cut where it is beyond any that is taken.
    Column("content", LargeBinary, nullable=False),
)

ingest_settings = Table(
    "ingest_settings",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("accept_past_us", BigInteger, nullable=False),
    Column("accept_future_us", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True)),
)

closed_period = Table(
    "closed_period",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("charge_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), nullable=False),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    # What the charge saw of usage.
    Column("usage_snapshot", Snapshot, nullable=False),
    # What there was when metering heard of the charge.
    Column("heard_snapshot", Snapshot, nullable=False),
    Column("heard_at", DateTime(timezone=True), nullable=False),
)

late_event = Table(
    "late_event",
    metadata,
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("event_key", Uuid, primary_key=True),
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), nullable=False),
    # The charge that had closed the event's period.
    Column("charge_id", Text(collation="C"), nullable=False),
)
