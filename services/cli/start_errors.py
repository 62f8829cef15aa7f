"""What to do when a mesh on this machine does not start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.cli.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, CliError
from services.local.errors import (
    GatewayNotStarted,
    GatewayUnfit,
    LocalError,
    MeshSecretDamaged,
    SecretsKeysDamaged,
    StartRefused,
)
from services.local.gateway import SETTING
from services.local.tenure import DatabaseOccupied
from services.runtime.edge.server import PortInUse
from services.runtime.postgres.roles import DatabaseTaken
from services.runtime.secrets import SETTING as SECRETS_SETTING

_ONE_EACH = "to run several meshes on one server, give each its own database"
# By the error itself, or by its cause.
_HINTS: Mapping[type[BaseException | None], Sequence[str]] = {
    PortInUse: ("choose another port with --grpc-port",),
    GatewayNotStarted: ("choose another port with --rest-port",),
    GatewayUnfit: (
        f"set {SETTING} to a program that runs here, or unset it to use the one that belongs to this tollmesh",
        "--no-rest runs the mesh without the REST facade",
    ),
    DatabaseTaken: (
        "use the data directory that the database was first used with (--data-dir), or copy passwords.json, "
        "mesh.secret and secrets.keys from there into this one",
        "if that directory is lost and no mesh uses it: --take-over sets new passwords for the roles and locks out "
        "whoever still has the old ones; webhook secrets depend on the lost secrets.keys and must be created again",
        _ONE_EACH,
    ),
    DatabaseOccupied: (
        "to move a mesh to another data directory or machine, stop it there first; what it leaves when its machine is "
        "gone, the server ends within half a minute",
        _ONE_EACH,
    ),
    MeshSecretDamaged: ("delete it: the next start creates a new one",),
    SecretsKeysDamaged: (
        f"restore it from a backup, or set {SECRETS_SETTING}: webhook secrets are encrypted with it",
    ),
}
_REFUSED = (MeshSecretDamaged, SecretsKeysDamaged)


def cli_error(error: LocalError) -> CliError:
    """Return the command line's error for it, with what to do next."""
    refused = error.__cause__ if isinstance(error, StartRefused) else error
    hints = _HINTS.get(type(refused), ())
    exit_code = EXIT_REFUSED if isinstance(error, _REFUSED) else EXIT_UNAVAILABLE
    return CliError(str(error), *hints, exit_code=exit_code)
