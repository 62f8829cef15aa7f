"""Tables of schema `ledger`, for the statements that are composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="ledger")

account = Table(
    "account",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("currency_code", Text, nullable=False),
    Column("type", SmallInteger, nullable=False),
    Column("debits_must_not_exceed_credits", Boolean, nullable=False),
    Column("credits_must_not_exceed_debits", Boolean, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("owner", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("floor_minor", BigInteger),
    Column("ceiling_minor", BigInteger),
    Column("limits_at_every_instant", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

balance = Table(
    "balance",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("debits_posted", BigInteger, nullable=False),
    Column("credits_posted", BigInteger, nullable=False),
    Column("debits_pending", BigInteger, nullable=False),
    Column("credits_pending", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
)
