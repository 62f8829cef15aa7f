"""Tables of schema `agreements`, for the statements that are composed; the migrations create them."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text

metadata = MetaData(schema="agreements")

agreement = Table(
    "agreement",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("agreement_id", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
