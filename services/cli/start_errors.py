"""What to do when a mesh on this machine does not start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.cli.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, CliError
from services.local.errors import (
    GatewayNotStarted,
    LocalError,
    MeshSecretDamaged,
    SecretsKeysDamaged,
    StartRefused,
)
from services.runtime.edge.server import PortInUse
from services.runtime.postgres.roles import DatabaseTaken
from services.runtime.secrets import SETTING as SECRETS_SETTING

# By the error itself, or by what refused the start.
_HINTS: Mapping[type[BaseException | None], Sequence[str]] = {
    PortInUse: ("choose another with --grpc-port",),
    GatewayNotStarted: ("choose another port with --rest-port",),
    DatabaseTaken: (
        "start with the data directory that it was first started with (--data-dir), or copy passwords.json, "
        "mesh.secret and secrets.keys from there into this one",
        "if that directory is lost, and no mesh runs with it: --take-over gives the roles new passwords, and locks out "
        "whoever still has the old ones; secrets of webhooks need the lost secrets.keys and have to be made anew",
        "several meshes on one server: a database each",
    ),
    MeshSecretDamaged: ("remove it: the next start makes a new one",),
    SecretsKeysDamaged: (
        f"bring it back from a backup, or set {SECRETS_SETTING}: the secrets of webhooks are kept under it",
    ),
}
_REFUSED = (MeshSecretDamaged, SecretsKeysDamaged)


def shown(error: LocalError) -> CliError:
    """Return the error to show, with what to do next."""
    refused = error.__cause__ if isinstance(error, StartRefused) else error
    hints = _HINTS.get(type(refused), ())
    exit_code = EXIT_REFUSED if isinstance(error, _REFUSED) else EXIT_UNAVAILABLE
    return CliError(str(error), *hints, exit_code=exit_code)
