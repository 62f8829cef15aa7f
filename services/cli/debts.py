"""What is open of a charge: what is unpaid of its total, and no more than its period comes to with its corrections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from payments.billing.v1 import billing_pb2, charge_service_pb2, charge_service_pb2_grpc
from payments.orchestration.v1 import (
    orchestration_pb2,
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)
from payments.type.v1 import type_pb2

from services.cli.client import Client
from services.cli.errors import CliError
from services.cli.lists import pages

PAYMENTS_PAGE = 500
CHARGES_PAGE = 100
_UNDER_WAY = (
    orchestration_pb2.PAYMENT_STATUS_PENDING,
    orchestration_pb2.PAYMENT_STATUS_RESOLVING,
)


@dataclass(frozen=True, slots=True)
class Open:
    """What is open of a charge.

    Attributes:
        left_minor: minor units; below zero if more was paid than is owed.
        order_limit: most that the payments of the charge may take together, whatever else is under way.
    """

    left_minor: int
    order_limit: type_pb2.Money


@dataclass(frozen=True, slots=True)
class Debt:
    """A charge, among all that was charged and put right for its period.

    Attributes:
        charge: the charge.
        period: the charge of the usage and its corrections, this one among them.
    """

    charge: billing_pb2.Charge
    period: tuple[billing_pb2.Charge, ...]

    @property
    def is_corrected(self) -> bool:
        """True when what is owed is not the total alone."""
        return len(self.period) > 1

    @property
    def owed(self) -> int:
        """What is owed for the charge, in minor units: corrections that give back come off it."""
        return max(min(self.charge.total.minor_units, self.of_period), 0)

    @property
    def of_period(self) -> int:
        """What is owed for the period, in minor units; below zero if more was given back than charged."""
        return sum(each.total.minor_units for each in self.period)

    def money(self, minor_units: int) -> type_pb2.Money:
        """Return an amount in the charge's currency."""
        currency_code = self.charge.total.currency_code
        return type_pb2.Money(currency_code=currency_code, minor_units=minor_units)

    def open(self, client: Client, key: str) -> Open | None:
        """Read what is open; None when the payment with this key was made already.

        Raises:
            CliError: the payments cannot be read.
        """
        taken = taken_of_period = 0
        for each in self.period:
            for made in payments_of(client, each.charge_id):
                if made.context.idempotency_key == key:
                    return None
                taken_of_period += _taken(made)
                taken += _taken(made) if each.charge_id == self.charge.charge_id else 0
        left = min(self.charge.total.minor_units - taken, self.of_period - taken_of_period)
        return Open(left, self.money(max(left + taken, 0)))


def debt(client: Client, charge_id: str) -> Debt:
    """Read a charge that is to be paid, and those of its period. Raises CliError."""
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    try:
        charge = _get(client, charge_id)
    except CliError as error:
        if error.reason == "NOT_FOUND":
            error.hints = ["nothing was paid; `tollmesh charges` lists the charges"]
        raise
    base = _get(client, charge.adjusts_charge_id) if charge.adjusts_charge_id else charge
    request = charge_service_pb2.ListChargesRequest(adjusts_charge_id=base.charge_id)
    corrections = pages(client, stub.ListCharges, request, "charges", CHARGES_PAGE)
    return Debt(charge, (base, *corrections))


def _get(client: Client, charge_id: str) -> billing_pb2.Charge:
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.GetChargeRequest(charge_id=charge_id)
    return client.call(stub.GetCharge, request).charge


def payments_of(client: Client, order_id: str) -> Iterator[orchestration_pb2.Payment]:
    """List the payments of an order, newest first."""
    stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
    request = orchestration_service_pb2.ListPaymentsRequest(order_id=order_id)
    return pages(client, stub.ListPayments, request, "payments", PAYMENTS_PAGE)


def _taken(made: orchestration_pb2.Payment) -> int:
    """Return what a payment took of its order, or may still take, in minor units."""
    if made.status in _UNDER_WAY:
        return made.plan.total_amount.minor_units
    return made.result.total_processed.minor_units
