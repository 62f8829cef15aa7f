"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest
from services.settlement.domain import measures

CONTRACTS = (
    Contract(
        "settlement/commissions-in-books",
        "The books hold what partners are owed",
        "CRITICAL",
        ContractKind.INVARIANT,
        "An account of a partner, or of a dispute, holds something else than its commissions and payouts come to, "
        "though nothing is on its way. VerifyCommissions compares all of them.",
    ),
    Contract(
        "settlement/payout-stuck",
        "Payouts reach the books",
        "HIGH",
        ContractKind.OBJECTIVE,
        "A payout, its payment or its return is not in the books after several tries. It is tried for as long as it "
        "takes; its message says what is in the way.",
    ),
    Contract(
        "settlement/charge-not-taken-in",
        "Commissions are taken in",
        "HIGH",
        ContractKind.OBJECTIVE,
        "What partners earn on a charge could not be taken in after several tries, so none of it is paid out yet. It "
        "is tried for as long as it takes; its message says what is in the way.",
    ),
    Contract(
        "settlement/sweep-stuck",
        "Sweeps come to their end",
        "HIGH",
        ContractKind.OBJECTIVE,
        "A sweep of commissions fails again and again. It goes on from the last party that it has paid; its message "
        "says what is in the way.",
    ),
)

SERVICE = Manifest(
    name="settlement",
    needs=frozenset({"billing:read", "ledger:read", "ledger:write"}),
    contracts=CONTRACTS,
    measures=measures.ALL,
    migrations="services.settlement.migrations",
)
