"""Batches of plain transfers, read by column: one look at each transfer, and one at all texts of a kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb

from services.ledger.domain.plain import PlainBatch
from services.ledger.domain.posting import Verdict
from services.ledger.messages.books import CODE_MAX
from services.runtime.turns import in_slices

# Between two looks at what else is to be done.
_SLICE_ITEMS = 500
# What the rules of the proto say of the texts of plain transfers, each on a line of its own.
_IDS = re.compile(r"(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\n)*").fullmatch
_NAMES = re.compile(r"(?:[A-Za-z0-9._:-]{1,200}\n)*").fullmatch
_CURRENCIES = re.compile(r"(?:[A-Z]{3}\n)*").fullmatch

# Fields that are set come in the order of their numbers: so the last of so many says which the others are.
_AMOUNT, _CODE, _KIND = (
    pb.Transfer.DESCRIPTOR.fields_by_name[name].number for name in ("amount", "code", "kind")
)


async def plain_batch_of(request: service_pb.PostTransfersRequest) -> PlainBatch | None:
    """Read a batch by column; None where one of its transfers is not well, or says more than a plain one may."""
    if request.unreadable:
        return None
    columns = PlainBatch.empty()
    items = request.transfers
    async for start in in_slices(range(0, len(items), _SLICE_ITEMS), 1):
        if not _read(items[start : start + _SLICE_ITEMS], columns):
            return None
    names = {*columns.debit_account_ids, *columns.credit_account_ids}
    is_well = (
        _all(_IDS, columns.transfer_ids)
        and _all(_NAMES, names)
        and _all(_CURRENCIES, set(columns.currency_codes))
    )
    return columns if is_well else None


def _read(items: Iterable[pb.Transfer], columns: PlainBatch) -> bool:
    for item in items:
        fields = item.ListFields()
        code = 0
        last = fields[-1][0].number if fields else 0
        if len(fields) != last or last < _AMOUNT:
            return False
        if last > _AMOUNT:
            code = fields[_CODE - 1][1]
            if last > _KIND or (last == _KIND and fields[-1][1] != pb.KIND_POSTED):
                return False
            if not 0 <= code <= CODE_MAX:
                return False
        amount = fields[_AMOUNT - 1][1]
        columns.transfer_ids.append(fields[0][1])
        columns.debit_account_ids.append(fields[1][1])
        columns.credit_account_ids.append(fields[2][1])
        columns.currency_codes.append(amount.currency_code)
        columns.amounts_minor.append(amount.minor_units)
        columns.codes.append(code)
    return True


def _all(match: Callable[[str], re.Match[str] | None], texts: Collection[str]) -> bool:
    """True where each text is one that matches; one that has several lines is none."""
    lines = "\n".join(texts) + "\n"
    return lines.count("\n") == len(texts) and match(lines) is not None


async def results(
    batch: PlainBatch, verdicts: Sequence[Verdict]
) -> service_pb.PostTransfersResponse:
    """Write the verdicts of a batch."""
    response = service_pb.PostTransfersResponse()
    rows = zip(batch.transfer_ids, verdicts, strict=True)
    async for index, (transfer_id, verdict) in in_slices(enumerate(rows), _SLICE_ITEMS):
        result = response.results.add(index=index, transfer_id=transfer_id, result=verdict.result)
        if verdict.original is not None:
            result.original_result = int(verdict.original)  # type: ignore[assignment] # numbers agree
    return response
