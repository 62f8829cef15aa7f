"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.orchestration.domain import measures
from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

CONTRACTS = (
    Contract(
        "orchestration/booking-stuck",
        "What processors did reaches the books",
        "HIGH",
        ContractKind.OBJECTIVE,
        "The ledger cannot be reached, or refuses what a processor charged or gave back. It is posted "
        "again until it is in the books.",
    ),
    Contract(
        "orchestration/compensation-stuck",
        "Refunds arrive",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A processor refuses to refund a step of a payment that failed as a whole: somebody "
        "has paid for nothing until it is settled by hand.",
    ),
    Contract(
        "orchestration/external-request",
        "Payment requests are unambiguous",
        "MEDIUM",
        ContractKind.SCHEMA,
        "A payment request was malformed, incomplete or ambiguous. It was repaired where that is "
        "harmless and refused where an amount would have been a guess.",
    ),
    Contract(
        "orchestration/late-charge",
        "A processor does nothing that it had not done",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A processor did what had counted as refused or as proved not to have happened. What was taken "
        "goes back by itself, and more may have been given back than was taken.",
    ),
    Contract(
        "orchestration/manual-outcome",
        "No outcome is left to people",
        "CRITICAL",
        ContractKind.OBJECTIVE,
        "Nothing can prove the outcome of an attempt any more: somebody has to find it out in the "
        "processor's books. Until then no other processor is asked, and its payment waits.",
    ),
    Contract(
        "orchestration/payments-in-books",
        "The ledger agrees with what was kept of a payment",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A payment ended, but its charges minus refunds in the ledger differ from what was kept.",
    ),
    Contract(
        "orchestration/processor-integrity",
        "A processor's answers match its requests",
        "CRITICAL",
        ContractKind.INVARIANT,
        "Amount, currency or reference of an answer are not what was sent. The outcome counts as "
        "unknown until the processor is asked again.",
    ),
    Contract(
        "orchestration/unknown-outcome",
        "Every attempt has a known outcome",
        "HIGH",
        ContractKind.OBJECTIVE,
        "A processor could not tell the outcome of an attempt, however often it was asked. An "
        "operator has to find out.",
    ),
    Contract(
        "orchestration/verdict-contradicted",
        "Processors confirm what operators found out",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A processor says that it refused what an operator had found to be done.",
    ),
    Contract(
        "plan/coverage",
        "A plan covers the whole amount",
        "HIGH",
        ContractKind.POLICY,
        "The steps that the merchant's configuration allows do not add up to the total of a payment.",
    ),
    Contract(
        "plan/limits",
        "Payments stay within the merchant's limits",
        "MEDIUM",
        ContractKind.POLICY,
        "A payer, a merchant or an instrument paid too much or too often for a limit of the merchant's "
        "configuration; the payment was refused before a processor was asked.",
    ),
    Contract(
        "router/timeout",
        "Processors answer in time",
        "MEDIUM",
        ContractKind.OBJECTIVE,
        "An attempt was sent and its answer did not come in time or could not be read. It may have "
        "charged, so it is asked after and never repeated elsewhere.",
    ),
)

SERVICE = Manifest(
    name="orchestration",
    needs=frozenset({"ledger:read", "ledger:write"}),
    contracts=CONTRACTS,
    measures=measures.ALL,
    migrations="services.orchestration.migrations",
)
