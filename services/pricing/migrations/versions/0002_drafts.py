"""Drafts of plans, tax codes of prices, and organisations that are held to a version of a plan."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0002"
down_revision = "0001"

_DRAFT = """
CREATE TABLE pricing.plan_draft (
  tenant_id     text  NOT NULL,
  plan_id       text  NOT NULL,
  currency_code text  NOT NULL,
  effective_at  timestamptz,
  prices        jsonb NOT NULL,
  PRIMARY KEY (tenant_id, plan_id),
  FOREIGN KEY (tenant_id, plan_id) REFERENCES pricing.plan
)
"""
# What the release before does not know stays where there is any: a later upgrade finds it again.
_KEPT = (
    ("SELECT FROM pricing.plan_draft", "DROP TABLE pricing.plan_draft"),
    (
        "SELECT FROM pricing.plan_price WHERE tax_code <> ''",
        "ALTER TABLE pricing.plan_price DROP COLUMN tax_code",
    ),
    (
        "SELECT FROM pricing.entitlement WHERE plan_version <> 0",
        "ALTER TABLE pricing.entitlement DROP COLUMN plan_version",
    ),
)


def upgrade() -> None:
    """Make room for them; an archived plan of an earlier upgrade stays deprecated."""
    if not _is_true("to_regclass('pricing.plan_draft') IS NOT NULL"):
        op.execute(_DRAFT)
        schema.protect(op, "pricing", "plan_draft")
    op.execute(
        "ALTER TABLE pricing.plan_price ADD COLUMN IF NOT EXISTS tax_code text NOT NULL DEFAULT ''"
    )
    op.execute(
        "ALTER TABLE pricing.entitlement ADD COLUMN IF NOT EXISTS plan_version integer NOT NULL DEFAULT 0 "
        "CHECK (plan_version >= 0)"
    )
    op.execute(
        "CREATE INDEX entitlement_of_plan ON pricing.entitlement (tenant_id, plan_id, org_id)"
    )
    op.execute(
        "CREATE INDEX org_business_model_of_model ON pricing.org_business_model (tenant_id, model_id)"
    )


def downgrade() -> None:
    """Take the room away where it is empty; what is archived is deprecated again."""
    op.execute("DROP INDEX pricing.org_business_model_of_model")
    op.execute("DROP INDEX pricing.entitlement_of_plan")
    op.execute(
        "UPDATE pricing.plan SET status = 'STATUS_DEPRECATED' WHERE status = 'STATUS_ARCHIVED' AND version > 0"
    )
    for found, removal in _KEPT:
        if not _is_true(f"EXISTS ({found})"):
            op.execute(removal)


def _is_true(condition: str) -> bool:
    return bool(op.get_bind().exec_driver_sql(f"SELECT {condition}").scalar_one())
