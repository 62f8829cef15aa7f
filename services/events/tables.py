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
