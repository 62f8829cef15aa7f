"""What the ledger publishes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from payments.events.v1.ledger_events_pb2 import LedgerBatchPosted

from services.ledger.domain.posting import Posting
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.transfers import moved
from services.ledger.messages import recipes
from services.runtime.money import MINOR_UNITS_MAX


def batch_posted(
    postings: Sequence[Posting], batch_no: int, account_count: int, now: datetime
) -> LedgerBatchPosted:
    """Tell what a batch posted."""
    sums: dict[str, int] = defaultdict(int)
    for posting in postings:
        if posting.debit is not None:
            sums[posting.transfer.currency_code] += moved(posting.transfer)
    event = LedgerBatchPosted(
        batch_no=batch_no, transfer_count=len(postings), account_count=account_count
    )
    for currency_code, total in sorted(sums.items()):
        # A sum beyond 64 bits is possible where every single balance still fits: then it is left out.
        if total <= MINOR_UNITS_MAX:
            event.totals.add(currency_code=currency_code, minor_units=total)
    event.recorded_at.FromDatetime(now)
    return event


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Write a recipe for the audit log."""
    return recipes.document(recipe)
