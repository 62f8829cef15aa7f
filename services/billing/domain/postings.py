"""A charge in the ledger: the fact that is posted, what came of it, and what a refusal means.

Accounts and legs are the recipe's business, which the ledger keeps. What it made of a charge is stored with the charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.billing.domain.charges import Charge
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.runtime.errors import Code, DomainError

# The name of the recipe, and the kind of the reference that it is posted for.
RECIPE = "charge"

_MICROSECOND = timedelta(microseconds=1)


class PostingRefused(DomainError):
    """The ledger took nothing of a charge. Once the account is put right the same call succeeds."""

    code = Code.FAILED_PRECONDITION
    reason = "POSTING_REFUSED"
    state_dependent = True
    charge_id: str
    account_id: str
    result: str


def effective_at(charge: Charge) -> datetime:
    """Return when a charge takes effect in the books: in its period's last microsecond, a correction when it is made.

    By then the books of the period may be closed, and what was reported of it stands.
    """
    if charge.adjusts_charge_id:
        return charge.created_at
    return charge.period.end_at - _MICROSECOND


def moves_money(charge: Charge) -> bool:
    """True when there is something to post; lines of zero move nothing."""
    return any(
        line.rated.amount.minor_units
        or line.partner_amount.minor_units
        or any(tax.amount.minor_units for tax in line.rated.taxes)
        for line in charge.lines
    )


def posted(charge: Charge, posting: Posting, transfers: Sequence[LedgerTransfer]) -> Charge:
    """Return a charge with what the ledger made of it; what was frozen before stays on record under its round."""
    round_no = charge.transfer_round + bool(charge.frozen)
    return replace(charge, posting=posting, transfers=tuple(transfers), transfer_round=round_no)


def posting_refused(charge_id: str, account_id: str, result: str) -> PostingRefused:
    """Say which account kept the ledger from taking a charge; an empty id for none."""
    at = f" at account {account_id}" if account_id else ""
    return PostingRefused(
        f"the ledger refused charge {charge_id} with {result}{at}; correct the account, then repeat the same call",
        charge_id=charge_id,
        account_id=account_id,
        result=result,
    )
