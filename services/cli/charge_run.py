"""Charges a period for many organisations, several at once. What was charged is found again: a run may be repeated."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from payments.billing.v1 import billing_pb2
from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc
from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli.client import Client
from services.cli.errors import EXIT_REFUSED, CliError
from services.cli.lists import pages

REFUSALS_KEPT = 1_000
_AHEAD = 2
# What holds for every organisation alike.
_OF_THE_PERIOD = ("PERIOD_NOT_ENDED", "INVALID_FIELD")
_WAITS_MAX = 20


@dataclass(slots=True)
class Run:
    """What came of a run.

    Attributes:
        charged: charges that stand.
        totals: their sums in minor units, by currency.
        totals_with_tax: the same with taxes that are added: what is owed.
        refused: organisations that could not be charged, by reason.
        refusals: the first thousand of them, each with why.
        later: organisations that were put on a business model behind the period, and were not charged.
        later_ids: the first thousand of them.
        planned: organisations that are on a plan, or are put on one behind the period.
        unplanned: organisations that used something in the period and are on no plan.
        unplanned_ids: the first thousand of them.
    """

    charged: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    totals_with_tax: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    refusals: list[tuple[str, CliError]] = field(default_factory=list)
    later: int = 0
    later_ids: list[str] = field(default_factory=list)
    planned: set[str] = field(default_factory=set)
    unplanned: int = 0
    unplanned_ids: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Organisations that were looked at."""
        return self.charged + self.refused.total()

    def note(self, org_id: str, error: CliError) -> None:
        """Count an organisation that could not be charged."""
        self.refused[error.reason or error.code] += 1
        if len(self.refusals) < REFUSALS_KEPT:
            self.refusals.append((org_id, error))

    def put_later(self, org_id: str) -> None:
        """Count an organisation that came onto its business model behind the period."""
        self.planned.add(org_id)
        self.later += 1
        if len(self.later_ids) < REFUSALS_KEPT:
            self.later_ids.append(org_id)

    def put_aside(self, org_id: str) -> None:
        """Count an organisation whose usage nobody is charged for."""
        self.unplanned += 1
        if len(self.unplanned_ids) < REFUSALS_KEPT:
            self.unplanned_ids.append(org_id)


def organisations(client: Client, period: type_pb2.Period, run: Run) -> Iterator[str]:
    """Give the organisations that are on a plan before the period's end, each once.

    First those that an entitlement puts on it, by id, then those that their business model does. Rating does not read
    since when they are on a model: who was put there behind the period is counted in `run`, and not given.

    Raises:
        CliError: they cannot be listed.
    """
    stub = client.stub(catalog_service_pb2_grpc.CatalogServiceStub)
    end_at = _nanos(period.end_at)
    on_models = {
        found.org_id: _nanos(found.assigned_at)
        for found in pages(
            client,
            stub.ListOrgBusinessModels,
            catalog_service_pb2.ListOrgBusinessModelsRequest(),
            "org_business_models",
        )
    }
    last = ""
    request = catalog_service_pb2.ListEntitlementsRequest()
    for found in pages(client, stub.ListEntitlements, request, "entitlements"):
        if found.org_id != last and _nanos(found.effective_at) < end_at:
            last = found.org_id
            on_models.pop(last, None)
            run.planned.add(last)
            yield last
    for org_id, assigned_at in on_models.items():
        if assigned_at < end_at:
            run.planned.add(org_id)
            yield org_id
        else:
            run.put_later(org_id)


def look_for_unplanned(client: Client, period: type_pb2.Period, run: Run) -> None:
    """Count the organisations that used something in the period and are on no plan, once all on a plan are known.

    Raises:
        CliError: they cannot be listed.
    """
    stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
    request = metering_service_pb2.ListUsageOrgsRequest(period=period)
    for found in pages(client, stub.ListUsageOrgs, request, "usage_orgs"):
        if found.org_id not in run.planned:
            run.put_aside(found.org_id)


def charged(
    org_ids: Iterable[str],
    charge: Callable[[str], billing_pb2.Charge],
    run: Run,
    jobs: int,
) -> Iterator[billing_pb2.Charge]:
    """Charge organisations, `jobs` at once, and give the charges in the order of the organisations.

    What one organisation is refused for is counted in `run`, and the run goes on.

    Raises:
        CliError: the mesh is away, or refuses the key or the period: what is left was not tried.
    """
    waiting: deque[tuple[str, Future[billing_pb2.Charge]]] = deque()
    left = iter(org_ids)
    with ThreadPoolExecutor(jobs, thread_name_prefix="charge") as pool:
        try:
            while True:
                for org_id in islice(left, jobs * _AHEAD - len(waiting)):
                    waiting.append((org_id, pool.submit(_when_let, charge, org_id)))
                if not waiting:
                    return
                org_id, answer = waiting.popleft()
                try:
                    made = answer.result()
                except CliError as error:
                    if error.exit_code != EXIT_REFUSED or error.reason in _OF_THE_PERIOD:
                        raise
                    run.note(org_id, error)
                    continue
                run.charged += 1
                run.totals[made.total.currency_code] += made.total.minor_units
                owed = owed_by(made)
                run.totals_with_tax[owed.currency_code] += owed.minor_units
                yield made
        finally:
            for _, answer in waiting:
                answer.cancel()


def owed_by(made: billing_pb2.Charge) -> type_pb2.Money:
    """Return what the organisation owes for a charge: its total, and taxes that are added to it."""
    return made.total_with_tax if made.HasField("total_with_tax") else made.total


def _when_let(charge: Callable[[str], billing_pb2.Charge], org_id: str) -> billing_pb2.Charge:
    """Charge an organisation, again as often as the mesh asks to wait for it."""
    for _ in range(_WAITS_MAX):
        try:
            return charge(org_id)
        except CliError as error:
            if error.retry_after_ms is None:
                raise
            time.sleep(error.retry_after_ms / 1000)
    return charge(org_id)


def as_json(refusal: tuple[str, CliError]) -> dict[str, Any]:
    """Return an organisation that could not be charged for programs."""
    org_id, error = refusal
    return {"org_id": org_id, **error.as_dict()}


def _nanos(at: Timestamp) -> int:
    return at.seconds * 10**9 + at.nanos
