"""Tables of schema `ledger`, for the statements that are composed; the migrations create them."""

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
    Uuid,
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

transfer = Table(
    "transfer",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("transfer_id", Uuid, primary_key=True),
    Column("batch_no", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("debit_account_id", Text, nullable=False),
    Column("credit_account_id", Text, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("code", Integer, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("linked", Boolean, nullable=False),
    Column("effective_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), primary_key=True),
    Column("metadata", JSONB, nullable=False),
    Column("pending_id", Uuid),
    Column("timeout_ms", BigInteger, nullable=False),
    Column("flags", SmallInteger, nullable=False),
    Column("asked_all", Boolean, nullable=False),
    Column("reverses_id", Uuid),
    Column("reference_kind", Text),
    Column("reference_id", Text),
    Column("reference_part", Text),
    Column("posting_id", Uuid),
    Column("not_before", DateTime(timezone=True)),
)

hold = Table(
    "hold",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("transfer_id", Uuid, primary_key=True),
    Column("remaining_minor", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
)
