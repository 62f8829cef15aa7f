"""The secrets of a mesh on one machine, each a file of its data directory that only its owner can read."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path

from services.local.errors import MeshSecretDamaged, SecretsKeysDamaged
from services.runtime.postgres.roles import DatabaseTaken
from services.runtime.secrets import new_key, parse_keys

MESH_SECRET_FILE = "mesh.secret"  # noqa: S105 - the name of a file
PASSWORDS_FILE = "passwords.json"
SECRETS_KEYS_FILE = "secrets.keys"
_MESH_SECRET_CHARS_MIN = 32


def mesh_secret(data_dir: Path) -> str:
    """Read the secret that tokens between services are signed with; make it when it is missing.

    Raises:
        MeshSecretDamaged: the file holds no secret.
    """
    path = data_dir / MESH_SECRET_FILE
    secret = _kept(path, secrets.token_urlsafe(48))
    if len(secret) < _MESH_SECRET_CHARS_MIN:
        raise MeshSecretDamaged(path)
    return secret


def secrets_keys(data_dir: Path) -> str:
    """Read the keys that the database's secrets are kept under; make one when there is none.

    Raises:
        SecretsKeysDamaged: the file holds no keys.
    """
    path = data_dir / SECRETS_KEYS_FILE
    keys = _kept(path, new_key())
    try:
        found = parse_keys(keys)
    except ValueError:
        found = ()
    if not found:
        raise SecretsKeysDamaged(path)
    return keys


def refuse_a_part(data_dir: Path, others: Iterable[str]) -> None:
    """Refuse a directory that has the passwords of a mesh and not its other secrets, files named `others`.

    Raises:
        DatabaseTaken: one is missing.
    """
    missing = [name for name in others if not (data_dir / name).exists()]
    if missing and (data_dir / PASSWORDS_FILE).exists():
        raise DatabaseTaken(
            f"{data_dir} holds the passwords of a mesh but not its secret ({', '.join(missing)}): two meshes that do "
            "not know each other would share one database"
        )


def _kept(path: Path, new: str) -> str:
    """Read a file that only its owner can read; make it, whole or not at all, when it is missing."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(name)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        return ""  # whoever asked says that it is damaged
