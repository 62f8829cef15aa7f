"""Kill -9 of the whole mesh at every named crash point: after a restart nothing is lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest

from services.cli.errors import CliError
from services.local.postgres.server import EmbeddedPostgres
from tests.chaos import crash_points
from tests.chaos.mesh.scenario import Scenario
from tests.support.mesh.process import MeshProcess

# A background task may take its time to pass a point.
PASS_SECONDS = 90.0


class Estate:
    """One data directory for all deaths of a worker, and the mesh that survived the last of them.

    Each death is that of a mesh which found what the death before it left; points are armed while it runs.
    """

    def __init__(self, folder: Path) -> None:
        self._data_dir = folder / "data"
        self._armed = folder / "crash-at"
        self._mesh: MeshProcess | None = None

    def running(self) -> MeshProcess:
        """Return the mesh; one that is dead is started again."""
        if self._mesh is None or self._mesh.process.poll() is not None:
            self._mesh = self._start()
            assert self._mesh.await_ready(), self._mesh.errors()
        return self._mesh

    def die_at(self, point: str, scenario: Scenario) -> None:
        """Run the scenario on the mesh until it dies at the point."""
        mesh, self._mesh = self.running(), None
        with mesh:
            self._arm(point)
            try:
                scenario.run(mesh.session)
            except CliError as error:
                assert error.reason in {"", "DATABASE_UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"}, error
            self._await_death(mesh, point)

    def die_again_at(self, point: str) -> None:
        """Start a mesh that dies at the point by what it finds, a minute later."""
        self._let_a_minute_pass()
        self._arm(point)
        with self._start() as mesh:
            self._await_death(mesh, point)

    def end(self) -> None:
        """Stop the mesh. By then every event has had its effect.

        What the monitor and the webhooks hear may be on its way when the mesh stops.
        """
        assert self.running().stop() == 0
        for remains in (
            "mesh.delivery WHERE consumer NOT LIKE 'monitoring.%' AND consumer <> 'events.webhooks'",
            "mesh.dead_letter",
        ):
            assert self._query(f"SELECT count(*) FROM {remains}") == (0,), remains

    def _start(self) -> MeshProcess:
        return MeshProcess(self._data_dir, crash_at=f"@{self._armed}")

    def _arm(self, point: str) -> None:
        # All of it at once: a background task may look at any time.
        new = self._armed.with_suffix(".new")
        new.write_text(point, encoding="utf-8")
        new.rename(self._armed)

    def _await_death(self, mesh: MeshProcess, point: str) -> None:
        code = mesh.await_death(PASS_SECONDS)
        self._armed.unlink()
        assert code == -signal.SIGKILL, f"{point} was never passed: {mesh.errors()[-2000:]}"

    def _let_a_minute_pass(self) -> None:
        """Make the charges that were left half-way due."""
        self._query(
            "UPDATE billing.charge SET due_at = created_at, lease_until = NULL WHERE status = 1"
        )

    def _query(self, statement: LiteralString) -> tuple[object, ...] | None:
        """Run a statement while no mesh runs; returns its first row, if it has rows."""
        with (
            EmbeddedPostgres(self._data_dir) as postgres,
            psycopg.connect(postgres.admin_url("tollmesh")) as connection,
        ):
            found = connection.execute(statement)
            return found.fetchone() if found.description else None


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    made = Estate(tmp_path_factory.mktemp("mesh"))
    yield made
    made.end()


@pytest.mark.parametrize("point", crash_points.chosen(sorted(crash_points.ALL)))
def test_nothing_is_lost_or_doubled(point: str, estate: Estate) -> None:
    scenario = Scenario(f"t-{uuid4()}", loses_an_answer=point.startswith("orchestration."))
    prelude = crash_points.AFTER_DEATH_AT.get(point)
    estate.die_at(prelude or point, scenario)
    if prelude:
        estate.die_again_at(point)
    mesh = estate.running()
    scenario.let_leases_run_out(mesh.ready["database_url"])
    scenario.run(mesh.session)
    scenario.run(mesh.session)
    scenario.check(mesh.ready["database_url"])
