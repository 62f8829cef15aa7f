"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.orders.domain import measures
from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

CONTRACTS = (
    Contract(
        "orders/posting-stuck",
        "Payments of orders reach the books",
        "HIGH",
        ContractKind.OBJECTIVE,
        "What an operator took for an order is not in the books after several tries. It is tried for as long as it"
        " takes; its message says what is in the way.",
    ),
    Contract(
        "orders/credits-stuck",
        "Credits reach the books, and end in time",
        "HIGH",
        ContractKind.OBJECTIVE,
        "What happened to credits is not in the books after several tries, or a grant that is over has not ended. It is"
        " tried for as long as it takes; its message says what is in the way.",
    ),
)

SERVICE = Manifest(
    name="orders",
    needs=frozenset({"ledger:write"}),
    contracts=CONTRACTS,
    measures=measures.ALL,
    migrations="services.orders.migrations",
)
