"""Use cases of the contract monitor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from services.monitoring import store
from services.monitoring.domain import (
    Contract,
    Position,
    Recorded,
    Registration,
    Violation,
    ViolationFilter,
    completed,
    fingerprint,
    registered,
    severity_fault,
)
from services.runtime.commands import Commands
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import InvalidField, NotFound


class Monitor:
    """The contracts and violations of the tenant that the running call acts for."""

    def __init__(
        self, database: Database, commands: Commands, built_in: Sequence[Contract]
    ) -> None:
        self._database = database
        self._commands = commands
        self._built_in = {contract.contract_id: contract for contract in built_in}

    async def register(self, contracts: Sequence[Contract]) -> list[Registration]:
        """Register contracts in one transaction and answer for each, in their order."""
        return await self._commands.apply(
            "monitoring.register_contracts", self._register, contracts
        )

    async def record(self, violations: Sequence[Violation]) -> list[bool]:
        """Record violations in one transaction; True for each that was not known before."""
        return await self._commands.apply(
            "monitoring.record_violations", self.record_in, violations
        )

    async def list_contracts(self, after: str, limit: int) -> list[Contract]:
        """List built-in and registered contracts behind `after`, by id."""
        async with self._database.read() as work:
            own = await store.list_contracts(work, after, limit)
        contracts = {key: contract for key, contract in self._built_in.items() if key > after}
        contracts |= self._marked(own)
        return [contracts[key] for key in sorted(contracts)[:limit]]

    async def list_violations(
        self, wanted: ViolationFilter, after: Position | None, limit: int
    ) -> list[Recorded]:
        """List violations behind `after`, the last recorded first.

        Raises:
            NotFound: there is no such contract, and no violation of one.
            InvalidField: there is no such severity.
        """
        async with self._database.read() as work:
            found = await store.list_violations(work, wanted, after, limit)
            if not found and after is None:
                await self._check_filter(work, wanted)
        return [
            replace(item, contract_registered=True)
            if item.violation.contract_id in self._built_in
            else item
            for item in found
        ]

    async def _register(
        self, contracts: Sequence[Contract], work: UnitOfWork
    ) -> list[Registration]:
        """Register contracts within a transaction; a later one of the same id sees the one before it."""
        await store.lock_contracts(work)
        known = await self._known(work, {contract.contract_id for contract in contracts})
        results = []
        for contract in contracts:
            before = known.get(contract.contract_id)
            after = registered(contract, before, work.now)
            if after is not before:
                await store.put_contract(work, after)
                known[after.contract_id] = after
                previous = before.as_audited() if before else None
                work.audit("contract", after.contract_id, previous, after.as_audited())
            results.append(Registration(after, changed=after is not before))
        return results

    async def record_in(self, violations: Sequence[Violation], work: UnitOfWork) -> list[bool]:
        """Record violations within a transaction; of two that are the same only the first is new."""
        ids = {violation.contract_id for violation in violations}
        contracts = await self._known(work, ids)
        rows: dict[str, tuple[Violation, int, bytes]] = {}
        for violation in violations:
            contract = contracts.get(violation.contract_id)
            whole = completed(violation, contract)
            version = contract.version if contract else 0
            rows.setdefault(whole.violation_id, (whole, version, fingerprint(whole, version)))
        new = await store.insert_violations(work, rows) if rows else set()
        verdicts = []
        for violation in violations:
            verdicts.append(violation.violation_id in new)
            new.discard(violation.violation_id)
        return verdicts

    async def _check_filter(self, work: UnitOfWork, wanted: ViolationFilter) -> None:
        """Refuse a filter that nothing can pass, once nothing has: what was recorded counts as known."""
        contract_id, severity = wanted.contract_id, wanted.severity

        async def recorded(of_it: ViolationFilter) -> bool:
            return bool(await store.list_violations(work, of_it, None, 1))

        registered_one = contract_id in await self._known(work, {contract_id})
        if contract_id and not registered_one and not await recorded(ViolationFilter(contract_id)):
            raise NotFound("contract", contract_id)
        fault = severity_fault(severity)
        if fault and not await recorded(ViolationFilter(severity=severity)):
            raise InvalidField.one("severity", fault)

    async def _known(self, work: UnitOfWork, contract_ids: Collection[str]) -> dict[str, Contract]:
        """The built-in contracts and the tenant's; the tenant's own version stands before the built-in one."""
        own = await store.read_contracts(work, contract_ids)
        return self._built_in | self._marked(own.values())

    def _marked(self, own: Iterable[Contract]) -> dict[str, Contract]:
        """The tenant's own versions by their ids, with what only the built-in ones know."""
        return {
            contract.contract_id: replace(contract, built_in=contract.contract_id in self._built_in)
            for contract in own
        }
