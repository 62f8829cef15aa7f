"""Tables of schema `monitoring`, for the statement that is composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, LargeBinary, MetaData, SmallInteger, Table, Text

metadata = MetaData(schema="monitoring")

contract = Table(
    "contract",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("contract_id", Text, primary_key=True),
)

violation = Table(
    "violation",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("violation_id", Text, primary_key=True),
    Column("contract_id", Text, nullable=False),
    Column("contract_version", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("fingerprint_algorithm", SmallInteger, nullable=False),
)
