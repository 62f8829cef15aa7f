"""What a service says about itself before it is built, and which services there are.

A service is a folder of `services` with a module `manifest`, whose `SERVICE` is all that the rest of the release
has to know of it: whoever starts, migrates, watches or tests services finds them here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

import services
from services.runtime import contracts, measures
from services.runtime.contracts import Contract
from services.runtime.measures import Measure
from services.runtime.service import Runtime, Service

Build = Callable[[Runtime], Service]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A service, before it is built.

    Attributes:
        name: its folder, its principal in calls to others, and the schema of its tables, e.g. `ledger`.
        needs: scopes that it needs of other services. Its calls to them carry these and no others.
        contracts: what it promises.
        measures: what it counts and shows at the metrics endpoint.
        migrations: package of its Alembic environment; empty when it has no tables of its own.
        builder: builds it; without one, `build` of its `bootstrap`.
    """

    name: str
    needs: frozenset[str] = frozenset()
    contracts: tuple[Contract, ...] = ()
    measures: tuple[Measure, ...] = ()
    migrations: str = ""
    builder: Build | None = None

    def load(self) -> Build:
        """Load its code, for who would rather wait before anything runs; returns what builds it."""
        if self.builder is not None:
            return self.builder
        build: Build = importlib.import_module(f"services.{self.name}.bootstrap").build
        return build


def found() -> list[Manifest]:
    """Return the services of this release, by name.

    Raises:
        ValueError: a manifest names another folder than its own.
    """
    manifests = []
    for folder in sorted(item.name for item in pkgutil.iter_modules(services.__path__)):
        module = f"services.{folder}.manifest"
        if find_spec(module) is None:
            continue
        manifest: Manifest = importlib.import_module(module).SERVICE
        if manifest.name != folder:
            raise ValueError(f"{module} names {manifest.name}")
        manifests.append(manifest)
    return manifests


def environments() -> list[str]:
    """Return the Alembic environments of the services of this release."""
    return [manifest.migrations for manifest in found() if manifest.migrations]


def declared(running: Iterable[Manifest]) -> tuple[Contract, ...]:
    """Return the contracts of the runtime, of the services that run here and of all others of this release.

    Raises:
        ValueError: two services declare one contract.
    """
    everywhere = {manifest.name: manifest for manifest in (*found(), *running)}
    known = {contract.contract_id: contract for contract in contracts.MESH}
    for manifest in everywhere.values():
        for contract in manifest.contracts:
            if contract.contract_id in known:
                raise ValueError(f"contract {contract.contract_id} is declared twice")
            known[contract.contract_id] = contract
    return tuple(known.values())


def measured(running: Iterable[Manifest] = ()) -> tuple[Measure, ...]:
    """Return the measures of the runtime, of the services that run here and of all others of this release.

    Raises:
        ValueError: a measure is declared twice, or two would have one name in Prometheus, which has no dots.
    """
    everywhere = {manifest.name: manifest for manifest in (*found(), *running)}
    known = {measure.name.replace(".", "_"): measure for measure in measures.MESH}
    for manifest in everywhere.values():
        for measure in manifest.measures:
            name = measure.name.replace(".", "_")
            if name in known:
                raise ValueError(
                    f"measure {measure.name} is declared twice, once as {known[name].name}"
                )
            known[name] = measure
    return tuple(known.values())
