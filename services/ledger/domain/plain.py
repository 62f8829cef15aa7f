"""Plain transfers by column: batches that the books take whole, where no rule beyond the sums of their accounts counts.

Nothing is decided here: `lay_out` says what a batch does to its accounts, counted from wherever they stand. The store
posts it as a whole where every account takes all of it, in whatever order; else the batch is judged one by one, by
`posting.evaluate`, which alone knows the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.ledger.domain.transfers import Malformed, Transfer, plain_fingerprint
from services.runtime.money import MINOR_UNITS_MAX

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class PlainBatch:
    """Transfers that say nothing but their accounts, an amount and a code; each column has one item a transfer.

    Attributes:
        transfer_ids: as texts, with hyphens or without.
        amounts_minor: minor units of the currency beside them.
    """

    transfer_ids: list[str]
    debit_account_ids: list[str]
    credit_account_ids: list[str]
    currency_codes: list[str]
    amounts_minor: list[int]
    codes: list[int]

    def __len__(self) -> int:
        return len(self.transfer_ids)

    @classmethod
    def empty(cls) -> PlainBatch:
        """Make one without transfers."""
        return cls([], [], [], [], [], [])

    @classmethod
    def of(cls, batch: Iterable[Transfer | Malformed]) -> PlainBatch | None:
        """Read a batch by column; None where one of its transfers says more than a plain one may."""
        columns = cls.empty()
        for item in batch:
            if isinstance(item, Malformed) or not _is_bare(item):
                return None
            assert item.amount_minor is not None, "what is plain has an amount"
            columns.transfer_ids.append(item.transfer_id.hex)
            columns.debit_account_ids.append(item.debit_account_id)
            columns.credit_account_ids.append(item.credit_account_id)
            columns.currency_codes.append(item.currency_code)
            columns.amounts_minor.append(item.amount_minor)
            columns.codes.append(item.code)
        return columns

    def transfers(self) -> Iterator[Transfer]:
        """Give the transfers one by one."""
        for transfer_id, content in zip(self.transfer_ids, self._contents(), strict=True):
            yield Transfer(UUID(transfer_id), *content)

    def fingerprints(self) -> bytes:
        """Return the fingerprints of all, one behind the other."""
        return b"".join([plain_fingerprint(*content) for content in self._contents()])

    def _contents(self) -> Iterator[tuple[str, str, str, int, int]]:
        return zip(
            self.debit_account_ids,
            self.credit_account_ids,
            self.currency_codes,
            self.amounts_minor,
            self.codes,
            strict=True,
        )


def _is_bare(transfer: Transfer) -> bool:
    return (
        transfer.is_plain
        and not transfer.linked
        and transfer.effective_at is None
        and not transfer.metadata
    )


@dataclass(frozen=True, slots=True)
class Sides:
    """What the debits, or the credits, of a batch are to their accounts; one item a transfer.

    Attributes:
        places: which of the batch's accounts it is, from 1.
        seqs: how many entries the account has had in this batch, this one included.
        nets: what debits less credits of the account have come to in this batch, this one included.
    """

    places: list[int]
    seqs: list[int]
    nets: list[int]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a batch does to its accounts.

    Attributes:
        fingerprints: of its transfers, one behind the other.
        account_ids: sorted, in the order in which accounts are locked.
        currency_codes, debits, credits, entries: what it moves on each of them, and by how many entries.
        debit, credit: how each of its transfers stands on them.
    """

    fingerprints: bytes
    account_ids: list[str]
    currency_codes: list[str]
    debits: list[int]
    credits: list[int]
    entries: list[int]
    debit: Sides
    credit: Sides


def lay_out(batch: PlainBatch) -> Layout | None:
    """Add up what a batch does to each account; None where its transfers must be judged one by one.

    That is where an id comes twice, a transfer moves nothing or stays on its account, an account would need two
    currencies, or no sum could hold what is moved on it.
    """
    if not _is_sound(batch):
        return None
    account_ids = sorted({*batch.debit_account_ids, *batch.credit_account_ids})
    currencies = _currencies(batch, account_ids)
    if currencies is None:
        return None
    places = {account_id: place for place, account_id in enumerate(account_ids)}
    debits, credits, entries = ([0] * len(account_ids) for _ in range(3))
    debit, credit = Sides([], [], []), Sides([], [], [])
    rows = zip(batch.debit_account_ids, batch.credit_account_ids, batch.amounts_minor, strict=True)
    for debit_id, credit_id, amount in rows:
        from_place, to_place = places[debit_id], places[credit_id]
        debits[from_place] += amount
        credits[to_place] += amount
        entries[from_place] += 1
        entries[to_place] += 1
        debit.places.append(from_place + 1)
        debit.seqs.append(entries[from_place])
        debit.nets.append(debits[from_place] - credits[from_place])
        credit.places.append(to_place + 1)
        credit.seqs.append(entries[to_place])
        credit.nets.append(debits[to_place] - credits[to_place])
    if max(*debits, *credits) > MINOR_UNITS_MAX:
        return None
    return Layout(
        batch.fingerprints(), account_ids, currencies, debits, credits, entries, debit, credit
    )


def _is_sound(batch: PlainBatch) -> bool:
    digits = bytes.fromhex("".join(batch.transfer_ids).replace("-", ""))
    ids = {digits[start : start + _ID_BYTES] for start in range(0, len(digits), _ID_BYTES)}
    return (
        0 < len(ids) == len(batch)
        and min(batch.amounts_minor) > 0
        and not any(map(str.__eq__, batch.debit_account_ids, batch.credit_account_ids))
    )


def _currencies(batch: PlainBatch, account_ids: Sequence[str]) -> list[str] | None:
    """Return the currency that each account must have; None where one must have two."""
    first = batch.currency_codes[0]
    if batch.currency_codes.count(first) == len(batch):
        return [first] * len(account_ids)
    found: dict[str, str] = {}
    for column in (batch.debit_account_ids, batch.credit_account_ids):
        for account_id, currency_code in zip(column, batch.currency_codes, strict=True):
            if found.setdefault(account_id, currency_code) != currency_code:
                return None
    return [found[account_id] for account_id in account_ids]
