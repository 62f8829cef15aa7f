"""Tables of schema `events`, for the statements that are composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, DateTime, Integer, MetaData, Table, Text

metadata = MetaData(schema="events")

event_type = Table(
    "event_type",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("consumers", ARRAY(Text), nullable=False),
    Column("description", Text, nullable=False),
    Column("key_field", Text, nullable=False),
    Column("registered_at", DateTime(timezone=True), nullable=False),
)

event_type_version = Table(
    "event_type_version",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("json_schema", Text, nullable=False),
    Column("published_at", DateTime(timezone=True), nullable=False),
    Column("cutover_at", DateTime(timezone=True)),
)

webhook_attempt = Table(
    "webhook_attempt",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("attempt_id", Text, primary_key=True),
    Column("endpoint_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("response", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("latency_ms", Integer, nullable=False),
)
