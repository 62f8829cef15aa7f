"""A mesh as `tollmesh up` runs it, facade included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mesh.up import Running, tollmesh_up


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One mesh for all journeys of this worker; each has a tenant of its own."""
    with tollmesh_up(tmp_path_factory.mktemp("mesh") / "data") as running:
        yield running
