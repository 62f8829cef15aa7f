"""How long a log takes to fold, and an agreement to be asked for at both times."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from payments.agreements.v1 import agreements_pb2 as pb

from services.agreements.domain import edits as e
from services.agreements.domain.fold import as_of
from services.agreements.manifest import SERVICE
from services.runtime.clock import ManualClock
from tests.support.agreements.desk import Contracts, World, begun, new_contracts, with_product
from tests.support.measures.figures import tell
from tests.support.mesh.serving import running
from tests.support.postgres.server import DatabaseUrls

START = datetime(2026, 1, 1, tzinfo=UTC)
EDITS, ROUNDS = 10_000, 5
ASKED_EDITS, CALLS = 1_000, 200
FOLD_MS, AS_OF_MS = 50.0, 15.0


def log(count: int) -> list[e.Entry]:
    """A log of prices and quantities of ten products, every third edit backdated."""
    edits: list[e.Edit] = [e.Create("acme", "north", "USD", START, None)]
    edits += [e.AddProduct(e.Product(f"p{n}", "colo", Decimal(1), Decimal(1))) for n in range(10)]
    edits.append(e.Activate())
    while len(edits) < count:
        number = len(edits)
        key, value = f"p{number % 10}", Decimal(number)
        edits.append(e.ChangePrice(key, value) if number % 2 else e.ChangeQuantity(key, value))
    return [
        e.Entry(
            number + 1,
            edit,
            START + timedelta(hours=max(0, number - (500 if number % 3 == 0 else 12))),
            START + timedelta(hours=number),
        )
        for number, edit in enumerate(edits)
    ]


def test_a_fold_of_ten_thousand_edits() -> None:
    entries = log(EDITS)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        found = as_of("agr_1", entries, START + timedelta(days=3650), None)
        best = min(best, (time.process_time() - began) * 1_000)
        assert found is not None
        assert found.revision == EDITS
    tell(
        "agreements",
        f"fold of {EDITS:,} edits in process, one core",
        f"{best:.1f} ms",
        target=f"<= {FOLD_MS:.0f} ms",
    )
    # The target is that of an idle machine; CPU time grows with what else runs on its cores.
    assert best <= FOLD_MS * 4


@pytest.fixture
async def contracts(database: DatabaseUrls) -> AsyncIterator[Contracts]:
    async with running(database, [SERVICE], clock=ManualClock(START)) as mesh:
        yield new_contracts(World(mesh, ManualClock(START), database))


async def test_an_agreement_of_a_thousand_edits_at_both_times(contracts: Contracts) -> None:
    made = await contracts.apply("", begun(START), with_product())
    agreement_id = made.agreement.agreement_id
    for first in range(2, ASKED_EDITS, 100):
        prices = range(first, min(first + 100, ASKED_EDITS))
        edits = [
            pb.Edit(change_price=pb.ChangePrice(product_id="rack", unit_price=str(price)))
            for price in prices
        ]
        await contracts.apply(agreement_id, *edits)
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        found = await contracts.get(agreement_id, at=START, known=START)
        took.append((time.perf_counter() - began) * 1_000)
        assert found.revision == ASKED_EDITS
    took.sort()
    middle, p99 = took[CALLS // 2], took[CALLS * 99 // 100]
    tell(
        "agreements",
        f"GetAgreement as of both times, {ASKED_EDITS:,} edits, one caller",
        f"p50 {middle:.1f} ms, p99 {p99:.1f} ms",
        target=f"p99 <= {AS_OF_MS:.0f} ms",
    )
    assert middle <= AS_OF_MS * 4
