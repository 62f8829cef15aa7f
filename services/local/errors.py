"""Errors that keep a local mesh from starting or running. Whoever shows them adds what to do next."""

from __future__ import annotations

from pathlib import Path


class LocalError(Exception):
    """A local mesh doesn't start, or a part of it has failed; the message says why."""


class StartRefused(LocalError):
    """A port, the data directory or the database is unavailable; `__cause__` is the original error."""


class GatewayNotStarted(LocalError):
    """The REST facade didn't start listening; its own error is on standard error."""

    def __init__(self, listen: str) -> None:
        super().__init__(f"the REST gateway did not start on {listen}: see its error above")


class MeshSecretDamaged(LocalError):
    """The file of the mesh's secret is damaged. Nothing is encrypted with it, so a new one can be made."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")


class SecretsKeysDamaged(LocalError):
    """The file of the keys that encrypt secrets is damaged. Without the keys those secrets are lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")
