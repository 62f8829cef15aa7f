"""Tables of schema `metering`; the migrations create them. All statements are in `queries/`."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
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


class TransactionId(UserDefinedType[str]):
    """`xid8`: a transaction id that never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Name the type in DDL."""
        return "xid8"


# Fixed widths first: no padding between columns, 5 % of the row.
usage_key = Table(
    "usage_key",
    metadata,
    # BLAKE2b of the request_id. Sixteen bytes, because random texts as a key cost a quarter of the
    # insert rate at ten million rows.
    Column("event_key", Uuid, primary_key=True),
    # BLAKE2b of the content: the same id with another one is a conflict.
    Column("fingerprint", Uuid, nullable=False),
    # Says in which partition the event lies.
    Column("receipt_id", Uuid, nullable=False),
    Column("tenant_id", Text(collation="C"), primary_key=True),
)

usage_event = Table(
    "usage_event",
    metadata,
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("event_key", Uuid, primary_key=True),
    Column("fingerprint", Uuid, nullable=False),
    # Partitions are ranges of it: it begins with the time of its making.
    Column("receipt_id", Uuid, primary_key=True),
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
    # Orders receipts by when they became visible; null until it is given, a moment after the commit.
    Column("ordinal", BigInteger),
    # Of receipts from before ordinals: parts what charges from then saw.
    Column("recorded_xid", TransactionId),
    # INGEST, AMEND, CANCEL, REPLAY.
    Column("kind", Text, nullable=False),
    # BLAKE2b of what the batch says: the same batch again finds its receipt. Null where that is not asked.
    Column("batch_digest", Uuid),
)

log_leaf = Table(
    "log_leaf",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    # Of the receipt; the leaf's index is one less.
    Column("ordinal", BigInteger, primary_key=True),
    Column("closed_at", DateTime(timezone=True), nullable=False),
    # Of the tree of the receipt's events.
    Column("events_root", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

log_node = Table(
    "log_node",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    # Of a complete node: from 1, right above the leaves.
    Column("level", SmallInteger, primary_key=True),
    Column("node_index", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
)

log_head = Table(
    "log_head",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("tree_size", BigInteger, primary_key=True),
    Column("closed_at", DateTime(timezone=True), nullable=False),
    Column("root_hash", LargeBinary, nullable=False),
)

receipt_counter = Table(
    "receipt_counter",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("last_ordinal", BigInteger, nullable=False),
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
    # As the event says them: cut to 64 characters, NUL taken out.
    Column("org_id", Text(collation="C"), nullable=False),
    Column("sku", Text(collation="C"), nullable=False),
    # Of the batch that took it in after all.
    Column("replayed_receipt_id", Uuid),
)

ingest_settings = Table(
    "ingest_settings",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("accept_past_us", BigInteger, nullable=False),
    Column("accept_future_us", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True)),
    # ADJUST, REJECT.
    Column("late", Text, nullable=False),
    # Keys that metadata may have, sorted; none: any.
    Column("metadata_allowed", ARRAY(Text), nullable=False),
    # Keys whose values rollups keep apart, sorted.
    Column("rollup_keys", ARRAY(Text), nullable=False),
)

usage_rollup = Table(
    "usage_rollup",
    metadata,
    Column("bucket_at", DateTime(timezone=True), primary_key=True),
    # Of its events; null when none is left, as of all aggregates but count and sum.
    Column("first_event_at", DateTime(timezone=True)),
    Column("last_event_at", DateTime(timezone=True)),
    Column("event_count", BigInteger, nullable=False),
    # Readings at ordinals before this one may see other events in the bucket.
    Column("last_ordinal", BigInteger, nullable=False),
    # SHA-256 of project and values, cut to sixteen bytes.
    Column("series", Uuid, primary_key=True),
    # Of the keys that values are kept apart by: rows of the one in rollup_state count.
    Column("generation", Integer, primary_key=True),
    # Length of the bucket: 15 or 60.
    Column("minutes", SmallInteger, primary_key=True),
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), primary_key=True),
    Column("sku", Text(collation="C"), primary_key=True),
    Column("project_id", Text(collation="C"), nullable=False),
    # One for each key, in the order of rollup_state.group_keys; null where events lack it. Empty if not keyed.
    Column("group_values", ARRAY(Text(collation="C")), nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column("smallest", Numeric),
    Column("largest", Numeric),
    # The largest of those of the last instant.
    Column("latest", Numeric),
    # Whether it is of one combination of the values of keys; else of all of them.
    Column("keyed", Boolean, primary_key=True),
)

rollup_state = Table(
    "rollup_state",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("generation", Integer, nullable=False),
    # Rows of generations from this one on may be left.
    Column("oldest_generation", Integer, nullable=False),
    # Rollups hold what receipts up to this ordinal brought.
    Column("rolled_ordinal", BigInteger, nullable=False),
    Column("group_keys", ARRAY(Text), nullable=False),
)

rollup_stale = Table(
    "rollup_stale",
    metadata,
    Column("hour_at", DateTime(timezone=True), primary_key=True),
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), primary_key=True),
    Column("sku", Text(collation="C"), primary_key=True),
)

closed_period = Table(
    "closed_period",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("charge_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), nullable=False),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    Column("heard_at", DateTime(timezone=True), nullable=False),
    # What the charge saw of usage.
    Column("usage_ordinal", BigInteger, nullable=False),
    # What there was when metering heard of the charge.
    Column("heard_ordinal", BigInteger, nullable=False),
)

carried_sku = Table(
    "carried_sku",
    metadata,
    Column("start_at", DateTime(timezone=True), primary_key=True),
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), primary_key=True),
    Column("sku", Text(collation="C"), primary_key=True),
    Column("charge_id", Text(collation="C"), primary_key=True),
)

late_event = Table(
    "late_event",
    metadata,
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("event_key", Uuid, primary_key=True),
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), nullable=False),
    # The charge that had closed the event's period.
    Column("charge_id", Text(collation="C"), primary_key=True),
    # Of the event, that the change made; 0 for an event that was stored.
    Column("version", Integer, primary_key=True),
)

event_version = Table(
    "event_version",
    metadata,
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("event_key", Uuid, primary_key=True),
    Column("fingerprint", Uuid, nullable=False),
    Column("receipt_id", Uuid, nullable=False),
    # 0 is the event as it was sent.
    Column("version", Integer, primary_key=True),
    Column("source", SmallInteger, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("org_id", Text(collation="C"), nullable=False),
    Column("project_id", Text(collation="C"), nullable=False),
    Column("sku", Text(collation="C"), nullable=False),
    Column("quantity", Numeric(38, 18), nullable=False),
    Column("metadata", JSONB),
    Column("reason", Text, nullable=False),
)

budget = Table(
    "budget",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("budget_id", Text(collation="C"), primary_key=True),
    # What is counted for it; a budget that was deleted and put again begins another one.
    Column("series", Uuid, nullable=False),
    Column("org_id", Text(collation="C"), nullable=False),
    # Empty: all SKUs.
    Column("sku", Text(collation="C"), nullable=False),
    Column("period", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    # Units, or major units of the currency.
    Column("limit_value", Numeric, nullable=False),
    # Empty: a budget in units.
    Column("currency_code", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("thresholds_pct", ARRAY(Integer), nullable=False),
    Column("enforce_in_ingest", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

budget_version = Table(
    "budget_version",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("version", BigInteger, nullable=False),
)

budget_use = Table(
    "budget_use",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("series", Uuid, primary_key=True),
    Column("start_at", DateTime(timezone=True), primary_key=True),
    Column("used", Numeric, nullable=False),
    Column("held", Numeric, nullable=False),
    # Thresholds that were told of.
    Column("told", ARRAY(Integer), nullable=False),
    # Of a budget in money: the units by SKU that used and held are the price of.
    Column("quantities", JSONB, nullable=False),
)

hold = Table(
    "hold",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    Column("hold_id", Uuid, primary_key=True),
    Column("org_id", Text(collation="C"), nullable=False),
    Column("sku", Text(collation="C"), nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column("status", Text, nullable=False),
    # What of it is used, once it has ended; and what of it events have reported.
    Column("accounted", Numeric, nullable=False),
    Column("reported", Numeric, nullable=False),
    # What it takes of each budget.
    Column("shares", JSONB, nullable=False),
    Column("reserved_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    # When it is to be ended; null once it is.
    Column("due_at", DateTime(timezone=True)),
    Column("lease_owner", Text),
    Column("lease_until", DateTime(timezone=True)),
    Column("epoch", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("causation_id", Text, nullable=False),
    Column("traceparent", Text, nullable=False),
)

spooled_batch = Table(
    "spooled_batch",
    metadata,
    Column("tenant_id", Text(collation="C"), primary_key=True),
    # That the caller was told; the batch has another receipt where all of it had been stored before.
    Column("receipt_id", Uuid, primary_key=True),
    Column("stored_receipt_id", Uuid, nullable=False),
    Column("events", Integer, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("duplicate", Integer, nullable=False),
    Column("conflict", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    # JSON, in UTF-8.
    Column("problems", LargeBinary, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("drained_at", DateTime(timezone=True), nullable=False),
)
