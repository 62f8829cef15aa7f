"""Tables of schema `pricing`, for the statements that are composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, MetaData, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="pricing")

_EXACT = Numeric(38, 18)
_TIME = DateTime(timezone=True)

sku = Table(
    "sku",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("aggregation", Text, nullable=False),
    Column("cost", _EXACT),
    Column("retail", _EXACT),
    Column("tax_code", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
)

business_model = Table(
    "business_model",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("model_id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("default_plan_id", Text, nullable=False),
)

org_business_model = Table(
    "org_business_model",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("org_id", Text, primary_key=True),
    Column("model_id", Text, nullable=False),
    Column("plan_id", Text, nullable=False),
    Column("assigned_by", Text, nullable=False),
    Column("assigned_at", _TIME),
    Column("notes", Text, nullable=False),
)

plan = Table(
    "plan",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("model_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("version", Integer, nullable=False),
)

plan_version = Table(
    "plan_version",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("currency_code", Text, nullable=False),
    Column("effective_at", _TIME, nullable=False),
    Column("published_at", _TIME, nullable=False),
)

plan_price = Table(
    "plan_price",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("price", JSONB, nullable=False),
)

entitlement = Table(
    "entitlement",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("org_id", Text, primary_key=True),
    Column("effective_at", _TIME, primary_key=True),
    Column("plan_id", Text, nullable=False),
    Column("overrides", JSONB, nullable=False),
)

partner = Table(
    "partner",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("partner_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tier", Text, nullable=False),
)

partner_of_record = Table(
    "partner_of_record",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("org_id", Text, primary_key=True),
    Column("partner_id", Text, primary_key=True),
    Column("start_at", _TIME, primary_key=True),
    Column("end_at", _TIME),
    Column("status", Text, nullable=False),
)

commission_rate = Table(
    "commission_rate",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("partner_tier", Text, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("pct", _EXACT, nullable=False),
)
