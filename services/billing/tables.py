"""Tables of schema `billing`, for the statements that are composed; the migrations create them."""

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

metadata = MetaData(schema="billing")

charge = Table(
    "charge",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("charge_id", Text, primary_key=True),
    Column("org_id", Text, nullable=False),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("partner_total_minor", BigInteger, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("plan_id", Text, nullable=False),
    Column("plan_version", Integer, nullable=False),
    Column("usage_snapshot", Text, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("transfer_round", Integer, nullable=False),
    Column("transfer_count", Integer),
    Column("posting_id", Uuid),
    Column("recipe", Text),
    Column("recipe_version", Integer),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("settled_at", DateTime(timezone=True)),
    Column("kind", SmallInteger, nullable=False),
    Column("adjusts_charge_id", Text),
    Column("correction_no", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("reversed_by_charge_id", Text),
    # Of the usage that it saw; null for charges from before metering told ordinals.
    Column("usage_ordinal", BigInteger),
)

charge_line = Table(
    "charge_line",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("charge_id", Text, primary_key=True),
    Column("line_no", Integer, primary_key=True),
    Column("sku", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("quantity", Numeric(38, 18), nullable=False),
    Column("exact_amount", Numeric(38, 18), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("partner_id", Text, nullable=False),
    Column("partner_pct", Numeric(38, 18)),
    Column("partner_amount_minor", BigInteger, nullable=False),
    Column("proof", LargeBinary, nullable=False),
    Column("quantity_before", Numeric(38, 18)),
    Column("amount_before_minor", BigInteger),
    Column("partner_amount_before_minor", BigInteger),
    Column("dispute_id", Text, nullable=False),
    # As services.billing.messages.taxes writes them; null for a line without.
    Column("taxes", JSONB),
)
