"""The secrets of a mesh on one machine, each a file of its data directory that only its owner can read."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.local.errors import MeshSecretDamaged, SecretsKeysDamaged
from services.runtime.postgres.roles import DatabaseTaken
from services.runtime.secrets import new_key, parse_keys

MESH_SECRET_FILE = "mesh.secret"  # noqa: S105 - the name of a file
PASSWORDS_FILE = "passwords.json"
SECRETS_KEYS_FILE = "secrets.keys"
_MESH_SECRET_CHARS_MIN = 32
# Key of the passwords' file under which the secrets are told that belong to them.
_TOGETHER = "kept_with"


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


def refuse_others(data_dir: Path, secret: str, keys: str | None) -> None:
    """Refuse passwords that were kept with another mesh secret, or with other keys of the database's secrets.

    Args:
        data_dir: the directory.
        secret: the mesh secret that it holds.
        keys: its keys as text; None when they are kept elsewhere.

    Raises:
        DatabaseTaken: one is of another mesh.
    """
    together = _passwords(data_dir).get(_TOGETHER)
    if not isinstance(together, dict):
        return  # written before it was noted
    others = []
    if together.get("mesh_secret") not in (None, _secret_id(secret)):
        others.append(MESH_SECRET_FILE)
    # Keys come and go one by one; those of another mesh have none in common.
    known = together.get("secrets_keys")
    if keys is not None and known and not set(known) & set(_key_ids(keys)):
        others.append(SECRETS_KEYS_FILE)
    if others:
        raise DatabaseTaken(
            f"{data_dir} holds the passwords of one mesh and the secret of another ({', '.join(others)}): two meshes "
            "that do not know each other would share one database"
        )


def remember_together(data_dir: Path, secret: str, keys: str | None) -> None:
    """Note beside the passwords which secrets they are kept with; no secret can be had from it."""
    passwords = _passwords(data_dir)
    before = passwords.get(_TOGETHER)
    together = {**(before if isinstance(before, dict) else {}), "mesh_secret": _secret_id(secret)}
    if keys is not None:
        together["secrets_keys"] = _key_ids(keys)
    if before == together:
        return
    path = data_dir / PASSWORDS_FILE
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({**passwords, _TOGETHER: together}, file)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def _passwords(data_dir: Path) -> dict[str, Any]:
    """Return what the file of the passwords holds; who needs the passwords themselves says if it is damaged."""
    try:
        stored = json.loads((data_dir / PASSWORDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _secret_id(secret: str) -> str:
    return hashlib.sha256(b"tollmesh mesh secret id\0" + secret.encode()).hexdigest()[:16]


def _key_ids(keys: str) -> list[str]:
    return [key.key_id for key in parse_keys(keys)]


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
