"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.metering.domain.measures import MEASURES
from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

CONTRACTS = (
    Contract(
        "metering/late-usage",
        "Usage arrives before its period is charged",
        "MEDIUM",
        ContractKind.OBJECTIVE,
        "Usage events were stored for a period that a charge had closed: no charge bills them yet. "
        "ListLateEvents lists them.",
    ),
    Contract(
        "metering/log-integrity",
        "Receipts stay what was logged",
        "CRITICAL",
        ContractKind.OBJECTIVE,
        "What is stored of a receipt or of its events is not what the log of receipts was closed with. Its message "
        "says what; VerifyLog computes the log again.",
    ),
    Contract(
        "metering/rollup-integrity",
        "Rollups are what their events come to",
        "CRITICAL",
        ContractKind.OBJECTIVE,
        "What usage is answered from is not what the events of its hours come to. Its message says which bucket; "
        "VerifyRollups computes the rollups again.",
    ),
    Contract(
        "metering/budget",
        "Organisations stay within their soft budgets",
        "MEDIUM",
        ContractKind.POLICY,
        "What an organisation uses has come to a threshold of a soft budget, which refuses nothing. Its message says "
        "which; GetBudgetStatus tells how it stands.",
    ),
    Contract(
        "metering/spool",
        "What the spool has acknowledged is stored",
        "CRITICAL",
        ContractKind.OBJECTIVE,
        "A batch that was answered with ENQUEUED while the database was away was lost by NATS before it was stored. "
        "Its subject is the receipt_id; whoever sent it has to send it again.",
    ),
    Contract(
        "metering/usage-drift",
        "Usage is what its providers logged",
        "HIGH",
        ContractKind.OBJECTIVE,
        "A comparison with a provider's log (`tollmesh reconcile usage`) found events that only one of the two has or "
        "that differ, or a day that is unlike those before. Its message says what, its subject which organisation, "
        "SKU and day.",
    ),
)

SERVICE = Manifest(
    name="metering",
    needs=frozenset({"pricing:read"}),
    contracts=CONTRACTS,
    measures=MEASURES,
    migrations="services.metering.migrations",
)
