"""Agreements: edited, read at both times. What is written is told in its own transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.agreements import facts
from services.agreements.domain import measures
from services.agreements.domain.difference import Change, changes
from services.agreements.domain.edits import Create, Edit, Entry
from services.agreements.domain.errors import AgreementFull, RevisionConflict
from services.agreements.domain.fold import Agreement, as_of, extended
from services.agreements.domain.listing import Place
from services.agreements.store import agreements as store
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import InvalidField, NotFound
from services.runtime.ids import new_id
from services.runtime.turns import aside

EDITS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Edits:
    """What ApplyEdits was asked for; no id for a new agreement, revision 0 for whatever it is, no time for now."""

    agreement_id: str
    edits: tuple[Edit, ...]
    expected_revision: int
    effective_at: datetime | None


@dataclass(frozen=True, slots=True)
class Applied:
    """An agreement at the time from which edits hold, and what they changed of it."""

    agreement: Agreement
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Listed:
    """An agreement of a list, and its place."""

    agreement: Agreement
    place: Place


class Agreements:
    """The agreements of the tenant that the running call acts for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    async def apply(asked: Edits, work: UnitOfWork) -> Applied:
        """Write edits to the log of an agreement. Log and events commit together.

        Raises:
            NotFound: there is no such agreement.
            InvalidField: a new agreement does not begin with `create`, or `create` stands elsewhere.
            RevisionConflict: others wrote meanwhile.
            AgreementFull: the log would be too long.
            StatusConflict, EditRefused, CurrencyMismatch, HistoryConflict: by the fold.
        """
        is_new = not asked.agreement_id
        _check_create(asked.edits, is_new=is_new)
        log: list[Entry] = []
        if is_new:
            agreement_id = new_id("agr")
            if asked.expected_revision:
                raise InvalidField.one("expected_revision", "must be 0 for a new agreement")
        else:
            agreement_id = asked.agreement_id
            revision = await store.lock(work, agreement_id)
            if revision is None:
                raise NotFound("agreement", agreement_id)
            if asked.expected_revision and asked.expected_revision != revision:
                raise RevisionConflict(
                    f"agreement {agreement_id} is at revision {revision}, not {asked.expected_revision}: read it again",
                    agreement_id=agreement_id,
                    expected_revision=asked.expected_revision,
                    revision=revision,
                )
            log = await store.edits(work, agreement_id, EDITS_MAX)
        if len(log) + len(asked.edits) > EDITS_MAX:
            raise AgreementFull(
                f"agreement {agreement_id} would have more than {EDITS_MAX} edits: make a new agreement",
                agreement_id=agreement_id,
                edits_max=EDITS_MAX,
            )
        # Clocks of two processes may differ, and a log must never run backwards.
        recorded_at = max(work.now, log[-1].recorded_at) if log else work.now
        effective_at = asked.effective_at or recorded_at
        added = [
            Entry(len(log) + 1 + index, edit, effective_at, recorded_at, current().principal_id)
            for index, edit in enumerate(asked.edits)
        ]
        steps = await aside(len(log) + len(added), extended, agreement_id, log, added)
        (store.insert if is_new else store.grow)(work, agreement_id, added)
        after = steps[-1].after
        parts = (len(steps) + 1) * (after.parts + 1)
        for step, event in zip(steps, await aside(parts, facts.all_told, steps), strict=True):
            work.publish(event)
            work.count(measures.APPLIED, 1, edit=step.entry.edit.name)
        return Applied(after, await aside(parts, changes, steps[0].before, after))

    async def get(
        self, agreement_id: str, effective_at: datetime, recorded_at: datetime | None
    ) -> Agreement:
        """Return an agreement at one time, by what was known at another. Raises NotFound: there was none."""
        async with self._database.read() as work:
            log = await store.edits(work, agreement_id, EDITS_MAX)
        found = await aside(len(log), as_of, agreement_id, log, effective_at, recorded_at)
        if found is None:
            raise NotFound("agreement", agreement_id)
        return found

    async def edits(self, agreement_id: str, after_revision: int, limit: int) -> list[Entry]:
        """Return entries of a log, in the order in which they were written. Raises NotFound."""
        async with self._database.read() as work:
            found = await store.edits(work, agreement_id, limit, after_revision)
            if not found and not await store.edits(work, agreement_id, 1):
                raise NotFound("agreement", agreement_id)
        return found

    async def list(self, now: datetime, after: Place | None, limit: int) -> list[Listed]:
        """List agreements behind `after`, the latest made first, as they stand now or as they will begin."""
        found = []
        async with self._database.read() as work:
            for head in await store.heads(work, after, limit):
                log = await store.edits(work, head.agreement_id, EDITS_MAX)
                at = max(now, log[0].effective_at)
                agreement = await aside(len(log), as_of, head.agreement_id, log, at, None)
                assert agreement is not None, "an agreement is stored with its log"
                found.append(Listed(agreement, Place(head.created_at, head.agreement_id)))
        return found


def _check_create(edits: tuple[Edit, ...], *, is_new: bool) -> None:
    for index, edit in enumerate(edits):
        begins = isinstance(edit, Create)
        if begins and not (is_new and index == 0):
            raise InvalidField.one(
                f"edits[{index}].create",
                "begins an agreement: leave agreement_id out, and put it first",
            )
        if is_new and index == 0 and not begins:
            raise InvalidField.one(
                "edits[0]", "must be create, since agreement_id is empty and a new agreement begins"
            )
