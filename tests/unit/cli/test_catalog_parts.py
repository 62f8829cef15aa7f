"""Catalogues that are larger than one call."""

from __future__ import annotations

import pytest
from payments.pricing.v1 import catalog_service_pb2

from services.cli.catalog_parts import PART_BYTES_MAX, parts
from services.cli.errors import EXIT_USAGE, CliError


def catalog(skus: int, plans: int = 0, notes: int = 0) -> catalog_service_pb2.Catalog:
    made = catalog_service_pb2.Catalog()
    for n in range(plans):
        made.plans.add(plan_id=f"p{n}", notes="n" * notes)
    for n in range(skus):
        made.skus.add(sku=f"s{n}")
    return made


def test_what_fits_stays_in_one_piece() -> None:
    whole = catalog(1_000, 200, 1_500)
    assert list(parts(whole)) == [whole]


@pytest.mark.parametrize("whole", [catalog(2_500), catalog(3, 201), catalog(1_000, 190, 9_000)])
def test_parts_keep_every_entry_and_every_limit(whole: catalog_service_pb2.Catalog) -> None:
    found = list(parts(whole))
    assert len(found) > 1
    assert all(len(part.skus) <= 1_000 and len(part.plans) <= 200 for part in found)
    assert all(part.ByteSize() <= PART_BYTES_MAX for part in found)
    together = catalog_service_pb2.Catalog()
    for part in found:
        together.MergeFrom(part)
    assert together == whole
    # Plans refer to SKUs.
    first_plans = next((at for at, part in enumerate(found) if part.plans), len(found))
    assert not any(part.skus for part in found[first_plans + 1 :])


def test_an_id_that_no_part_sees_twice_is_refused() -> None:
    whole = catalog(1_500)
    whole.skus.add(sku="s0")
    with pytest.raises(CliError, match="skus has s0 twice") as refused:
        list(parts(whole))
    assert refused.value.exit_code == EXIT_USAGE
    whole = catalog(1_500)
    for second in (1, 2, 1):
        item = whole.entitlements.add(org_id="o", plan_id="p")
        item.effective_at.seconds = second
    with pytest.raises(CliError, match="entitlements has o/1970-01-01T00:00:01Z twice"):
        list(parts(whole))
