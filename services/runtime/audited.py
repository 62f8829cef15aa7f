"""Which kinds of things leave audit entries."""

KINDS = frozenset(
    {
        "api_key",
        "balance_monitor",
        "billing_account_org",
        "billing_account_partner",
        "budget",
        "business_model",
        "commission_rate",
        "contract",
        "dead_letters",
        "entitlement",
        "event_type",
        "ingest_settings",
        "ledger.period",
        "merchant_config",
        "org_business_model",
        "partner",
        "partner_of_record",
        "plan",
        "plan_version",
        "recipe",
        "replay",
        "schedule",
        "scheduled_transfer",
        "settlement_policy",
        "sku",
        "tax_policy",
        "tax_profile",
        "tax_rate",
        "timer",
        "usage_event",
        "webhook_endpoint",
        "webhook_secret",
    }
)
"""Names of all that `UnitOfWork.audit` is told of, in every service."""
