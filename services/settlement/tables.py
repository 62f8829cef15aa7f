"""Tables of schema `settlement`, for the statements that are composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="settlement")

earning = Table(
    "earning",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("charge_id", Text, primary_key=True),
    Column("line_no", Integer, primary_key=True),
    Column("org_id", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("party", Text, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("dispute_id", Text, nullable=False),
    Column("earned_at", DateTime(timezone=True), nullable=False),
    Column("payout_id", Text, nullable=False),
)

payout = Table(
    "payout",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("payout_id", Text, primary_key=True),
    Column("party", Text, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("destination", Text, nullable=False),
    Column("charge_id", Text, nullable=False),
    Column("line_no", Integer, nullable=False),
    Column("sweep_id", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("claimed_at", DateTime(timezone=True)),
    Column("paid_at", DateTime(timezone=True)),
    Column("returned_at", DateTime(timezone=True)),
    Column("payment_reference", Text, nullable=False),
    Column("return_code", Text, nullable=False),
)

sweep = Table(
    "sweep",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("sweep_id", Text, primary_key=True),
    Column("status", SmallInteger, nullable=False),
    Column("scheduled", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True)),
    Column("through_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("after_party", Text, nullable=False),
    Column("after_currency", Text, nullable=False),
    Column("payout_count", BigInteger, nullable=False),
    Column("totals", JSONB, nullable=False),
)
