"""Agreements and their logs, as messages."""

from __future__ import annotations

from payments.agreements.v1 import agreements_pb2 as pb

from services.agreements.domain.difference import Change
from services.agreements.domain.edits import Entry
from services.agreements.domain.fold import Agreement
from services.agreements.domain.statuses import BillingStatus, ServiceStatus, Status
from services.agreements.messages import edits
from services.runtime.edge import values as edge

_STATUSES = edge.Names(Status, pb.Status, "STATUS_")
_SERVICE_STATUSES = edge.Names(ServiceStatus, pb.ServiceStatus, "SERVICE_STATUS_")
_BILLING_STATUSES = edge.Names(BillingStatus, pb.BillingStatus, "BILLING_STATUS_")


def agreement_message(agreement: Agreement) -> pb.Agreement:
    """Write an agreement."""
    down = agreement.downpayment
    return pb.Agreement(
        agreement_id=agreement.agreement_id,
        revision=agreement.revision,
        buyer=agreement.buyer,
        seller=agreement.seller,
        currency_code=agreement.currency_code,
        products=[
            edits.product_message(each, agreement.effective_at) for each in agreement.products
        ],
        term=edits.term_message(agreement.start_at, agreement.end_at),
        auto_renew=edits.auto_renew_message(agreement.auto_renew),
        financing=edits.financing_message(agreement.installments),
        downpayment=None if down is None else edge.money(down),
        parties=[edits.party_message(each) for each in agreement.parties],
        status=_STATUSES.write(agreement.status),
        service_status=_SERVICE_STATUSES.write(agreement.service_status),
        billing_status=_BILLING_STATUSES.write(agreement.billing_status),
        net_days=agreement.net_days,
        reference=agreement.reference,
        effective_at=edge.stamp(agreement.effective_at),
        recorded_at=edge.stamp(agreement.recorded_at),
    )


def entry_message(entry: Entry) -> pb.AppliedEdit:
    """Write an entry of a log."""
    return pb.AppliedEdit(
        revision=entry.revision,
        edit=edits.edit_message(entry.edit),
        effective_at=edge.stamp(entry.effective_at),
        recorded_at=edge.stamp(entry.recorded_at),
        principal_id=entry.principal_id,
    )


def change_message(change: Change) -> pb.Change:
    """Write what differs."""
    return pb.Change(path=change.path, before=change.before, after=change.after)
