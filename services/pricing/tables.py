"""Tables of schema `pricing`, for the statements that are composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, Numeric, Table, Text
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
    Column("proration", Text),
)

plan_price = Table(
    "plan_price",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("price", JSONB, nullable=False),
    Column("tax_code", Text, nullable=False),
)

plan_draft = Table(
    "plan_draft",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("currency_code", Text, nullable=False),
    Column("effective_at", _TIME),
    Column("prices", JSONB, nullable=False),
    Column("proration", Text),
)

entitlement = Table(
    "entitlement",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("org_id", Text, primary_key=True),
    Column("effective_at", _TIME, primary_key=True),
    Column("plan_id", Text, nullable=False),
    Column("overrides", JSONB, nullable=False),
    Column("plan_version", Integer, nullable=False),
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
    Column("dispute", JSONB(none_as_null=True)),
)

commission_rate = Table(
    "commission_rate",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("partner_tier", Text, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("pct", _EXACT, nullable=False),
)

tax_rate = Table(
    "tax_rate",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("jurisdiction", Text, primary_key=True),
    Column("tax", Text, primary_key=True),
    Column("tax_code", Text, primary_key=True),
    Column("effective_at", _TIME, primary_key=True),
    Column("treatment", Text, nullable=False),
    Column("rate_percent", _EXACT),
    Column("inclusive", Boolean, nullable=False),
    Column("compound", Boolean, nullable=False),
    Column("position", Integer, nullable=False),
    Column("authority", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

tax_profile = Table(
    "tax_profile",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("org_id", Text, primary_key=True),
    Column("effective_at", _TIME, primary_key=True),
    Column("country", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("tax_id", Text, nullable=False),
    Column("reverse_charge", Boolean, nullable=False),
    Column("exemptions", JSONB, nullable=False),
)

tax_policy = Table(
    "tax_policy",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("country", Text, primary_key=True),
    Column("missing", Text, nullable=False),
    Column("rounding", Text, nullable=False),
)

billing_account_org = Table(
    "billing_account_org",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("org_id", Text, primary_key=True),
    Column("billing_account_id", Text, primary_key=True),
    Column("start_at", _TIME, primary_key=True),
    Column("end_at", _TIME),
)

billing_account_partner = Table(
    "billing_account_partner",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("billing_account_id", Text, primary_key=True),
    Column("partner_id", Text, primary_key=True),
    Column("start_at", _TIME, primary_key=True),
    Column("end_at", _TIME),
    Column("status", Text, nullable=False),
)
