"""Batches of plain transfers, read by column: one look at each transfer, and one at all texts of a kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache

from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb

from services.ledger.domain.plain import PlainBatch
from services.ledger.domain.posting import POSTED, Verdict
from services.ledger.domain.transfers import TransferResult
from services.ledger.messages.books import CODE_MAX
from services.runtime.turns import in_slices

BATCH_ITEMS_MAX = 8190
# Between two looks at what else is to be done.
_SLICE_ITEMS = 500
_ID_CHARACTERS = 36
_NO_ID = "-" * _ID_CHARACTERS
_HYPHENS = (8, 13, 18, 23)
# What the rules of the proto say of the texts of plain transfers, each on a line of its own.
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
        _are_ids(columns.transfer_ids)
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


def _are_ids(texts: Sequence[str]) -> bool:
    """True where each text is a UUID with its hyphens."""
    if set(map(len, texts)) != {_ID_CHARACTERS}:
        return False
    together = "".join(texts)
    hyphens = "-" * len(texts)
    if any(together[place::_ID_CHARACTERS] != hyphens for place in _HYPHENS):
        return False
    digits = together.replace("-", "")
    try:
        # Spaces would be passed over, and missed in the count.
        return len(bytes.fromhex(digits)) == len(digits) / 2 == 16 * len(texts)
    except ValueError:
        return False


def _all(match: Callable[[str], re.Match[str] | None], texts: Collection[str]) -> bool:
    """True where each text is one that matches; one that has several lines is none."""
    lines = "\n".join(texts) + "\n"
    return lines.count("\n") == len(texts) and match(lines) is not None


async def results(
    batch: PlainBatch, verdicts: Sequence[Verdict]
) -> service_pb.PostTransfersResponse:
    """Write the verdicts of a batch."""
    if all(verdict is POSTED for verdict in verdicts):
        return _posted(batch.transfer_ids)
    response = service_pb.PostTransfersResponse()
    rows = zip(batch.transfer_ids, verdicts, strict=True)
    async for index, (transfer_id, verdict) in in_slices(enumerate(rows), _SLICE_ITEMS):
        result = response.results.add(index=index, transfer_id=transfer_id, result=verdict.result)
        if verdict.original is not None:
            result.original_result = int(verdict.original)  # type: ignore[assignment] # numbers agree
    return response


def _posted(transfer_ids: Sequence[str]) -> service_pb.PostTransfersResponse:
    """Write that all are posted, as it stands on the wire: a message for each would take ten times as long."""
    heads, tail = _heads(), _tail()
    written = [f"{head}{each}{tail}" for head, each in zip(heads, transfer_ids, strict=False)]
    return service_pb.PostTransfersResponse.FromString("".join(written).encode("latin-1"))


@cache
def _heads() -> list[str]:
    """Return what stands before the id of each result: the field of the list, its length, the index, the id's field."""
    return [_wire(index).partition(_NO_ID)[0] for index in range(BATCH_ITEMS_MAX)]


@cache
def _tail() -> str:
    return _wire(0).partition(_NO_ID)[2]


def _wire(index: int) -> str:
    result = service_pb.PostTransferResult(
        index=index,
        transfer_id=_NO_ID,
        result=int(TransferResult.OK),  # type: ignore[arg-type] # numbers agree, see the tests
    )
    response = service_pb.PostTransfersResponse(results=[result])
    return response.SerializeToString().decode("latin-1")
