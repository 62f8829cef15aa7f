"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

CONTRACTS = (
    Contract(
        "ledger/payment-in-suspense",
        "Payments stand in the accounts of processor and payer",
        "HIGH",
        ContractKind.POLICY,
        "An account refused what a processor had charged or given back: it is closed, full, limited or "
        "of another type. The money is booked on a suspense account until somebody moves it.",
    ),
    Contract(
        "ledger/payments-in-books",
        "What was kept of a payment is what the books hold of it",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A payment ended, and its charges less its refunds in the ledger are not what was kept.",
    ),
)

SERVICE = Manifest(
    name="ledger",
    contracts=CONTRACTS,
    migrations="services.ledger.migrations",
)
