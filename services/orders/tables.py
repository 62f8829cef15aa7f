"""Tables of schema `orders`, for the statements that are composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, Integer, MetaData, Table, Text

metadata = MetaData(schema="orders")

sales_order = Table(
    "sales_order",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("order_id", Text, primary_key=True),
    Column("person_id", Text, nullable=False),
    Column("organization_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("paid_minor", BigInteger, nullable=False),
    Column("refunded_minor", BigInteger, nullable=False),
    Column("created_via", Text, nullable=False),
    Column("updated_via", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("operator_flags", ARRAY(Text), nullable=False),
    Column("cancel_reason", Text, nullable=False),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True)),
)

refund = Table(
    "refund",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("refund_id", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("person_id", Text, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("initiated_by", Text, nullable=False),
    Column("principal_id", Text, nullable=False),
    Column("completed_at", DateTime(timezone=True), nullable=False),
)

credit_grant = Table(
    "credit_grant",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("grant_id", Text, primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("granted_at", DateTime(timezone=True), nullable=False),
    Column("effective_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("rollover_max", BigInteger, nullable=False),
    Column("rollovers_left", Integer, nullable=False),
    Column("period_days", Integer, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    Column("lapsed", BigInteger, nullable=False),
    Column("taken_back", BigInteger, nullable=False),
    Column("reversed_at", DateTime(timezone=True)),
)
