"""Credentials of processors, as the operator keeps them: one JSON file each, or all in a setting.

They are bound to a tenant and to the addresses that they may be sent to, so that neither another tenant nor somebody
who may change a configuration can have them sent elsewhere. Nothing of them is stored or logged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from services.runtime.context import current

_NAMES = frozenset({"secret", "base_urls", "webhook_secrets"})


class CredentialDamaged(ValueError):
    """What is kept is no credential; the message names it and never its content."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What proves to a processor who we are.

    Attributes:
        secret: API key, or the key that requests are signed with.
        base_urls: to which it may be sent besides the adapter's own.
        webhook_secrets: with which the processor signs what it tells us; several while one is replaced.
    """

    secret: SecretStr
    base_urls: tuple[str, ...] = ()
    webhook_secrets: tuple[SecretStr, ...] = ()


class Credentials:
    """Finds credentials of the calling tenant by name.

    Args:
        given: `{"tenant/name": {"secret": …}}` as JSON, or an empty text.
        folder: holds `tenant/name.json`; files may be replaced while the service runs.
    """

    def __init__(self, given: SecretStr, folder: Path | None) -> None:
        self._given = parse(given.get_secret_value())
        self._folder = folder
        self._read: dict[Path, tuple[int, Credential]] = {}

    def find(self, name: str) -> Credential | None:
        """Return a credential, or None for one that is not kept. Raises CredentialDamaged."""
        tenant_id = current().tenant_id
        # Names of tenants and credentials are no paths; what could be one is not looked for.
        if "/" in tenant_id or tenant_id.startswith(".") or not name or "/" in name:
            return None
        found = self._given.get(f"{tenant_id}/{name}")
        if found is not None or self._folder is None:
            return found
        path = self._folder / tenant_id / f"{name}.json"
        try:
            changed_ns = path.stat().st_mtime_ns
            kept = self._read.get(path)
            if kept is None or kept[0] != changed_ns:
                text = path.read_text(encoding="utf-8")
                kept = changed_ns, _credential(f"{tenant_id}/{name}", _json(text, name))
                self._read[path] = kept
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CredentialDamaged(f"credential {name} cannot be read") from error
        except UnicodeDecodeError:
            # Without its cause, as below.
            raise CredentialDamaged(f"credential {name} is no text in UTF-8") from None
        return kept[1]


def parse(text: str) -> Mapping[str, Credential]:
    """Read the setting. Raises CredentialDamaged."""
    if not text.strip():
        return {}
    given = _json(text, "setting")
    if not isinstance(given, dict):
        raise CredentialDamaged("processor credentials must be a JSON object")
    return {name: _credential(name, found) for name, found in given.items()}


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # Without its cause: that would quote what is kept.
        raise CredentialDamaged(f"credential {name} is no JSON") from None


def _credential(name: str, found: Any) -> Credential:
    if (
        not isinstance(found, dict)
        or not found.keys() <= _NAMES
        or not _is_text(found.get("secret"))
    ):
        raise CredentialDamaged(
            f"credential {name} must be an object of secret, and where needed base_urls and webhook_secrets"
        )
    lists = [found.get("base_urls", []), found.get("webhook_secrets", [])]
    if not all(isinstance(each, list) and all(map(_is_text, each)) for each in lists):
        raise CredentialDamaged(f"base_urls and webhook_secrets of {name} must be lists of texts")
    secrets = [found["secret"], *lists[1]]
    if not all(each.isprintable() and each == each.strip() for each in secrets):
        # No call could carry it, and a call that cannot be made must not look like one whose answer is lost.
        raise CredentialDamaged(
            f"a secret of {name} has blanks around it, a line break or another control character"
        )
    return Credential(SecretStr(found["secret"]), tuple(lists[0]), tuple(map(SecretStr, lists[1])))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
