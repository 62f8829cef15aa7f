"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.ledger.domain import measures
from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

CONTRACTS = (
    Contract(
        "ledger/integrity",
        "What was posted never changes, and the books agree with it",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A verification found rows of the ledger that contradict one another, the chain of blocks or a head "
        "that was kept elsewhere: they were changed past the ledger, or it has a fault. Its message says which.",
    ),
    Contract(
        "ledger/payment-in-suspense",
        "What has happened is booked on the accounts that it concerns",
        "HIGH",
        ContractKind.POLICY,
        "An account refused what had happened, e.g. what a processor had charged or refunded: it is closed, full, "
        "limited or of another type. The money is on a suspense account until somebody moves it.",
    ),
)

SERVICE = Manifest(
    name="ledger",
    contracts=CONTRACTS,
    measures=measures.ALL,
    migrations="services.ledger.migrations",
)
