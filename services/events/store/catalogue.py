"""The catalogue that comes with the release: `registry/*.yaml`, and the messages of our own events.

It is the same for every tenant and in every process of a release, so nothing of it is stored: each start
reads it, checks it and compiles its schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from services.events.domain import schemas
from services.events.domain.types import EventType, Version
from services.runtime import documents
from services.runtime.outbox import registry
from services.runtime.outbox.subjects import is_subject

_OUTSIDE = {
    "subject", "owner", "consumers", "description", "key_field", "schema_by", "versions"
}  # fmt: skip
_OURS = {"subject", "consumers", "description"}


class CatalogueUnfit(Exception):
    """A file of the catalogue breaks a rule; the release is at fault."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A type of the catalogue.

    Attributes:
        type: the type.
        file: name of the file that lists it.
        schema_by: `mesh` (a message of ours), `producer` (the producer's own schema) or `us` (designed
            here, because only the event's name is known).
    """

    type: EventType
    file: str
    schema_by: str


@cache
def entries() -> Mapping[str, Entry]:
    """Return the catalogue by subject.

    Raises:
        CatalogueUnfit: an entry breaks a rule, stands twice, or a message of ours has none.
        SchemaInvalid: a schema is none.
    """
    found: dict[str, Entry] = {}
    for file, item in _items():
        entry = _entry(file, item)
        if entry.type.subject in found:
            raise CatalogueUnfit(f"{file}: {entry.type.subject} is listed twice")
        found[entry.type.subject] = entry
    unlisted = {kind.subject for kind in registry.all_types().values()} - found.keys()
    if unlisted:
        raise CatalogueUnfit(f"events without a catalogue entry: {sorted(unlisted)}")
    return dict(sorted(found.items()))


def get(subject: str) -> EventType | None:
    """Return a type of the catalogue, or None."""
    entry = entries().get(subject)
    return entry.type if entry else None


def _items() -> Iterator[tuple[str, Mapping[str, Any]]]:
    folder = resources.files("services.events").joinpath("registry")
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".yaml"):
            try:
                document = documents.read(file.read_bytes())
            except documents.DocumentUnfit as error:
                raise CatalogueUnfit(f"{file.name}: {error}") from error
            yield from ((file.name, item) for item in document["event_types"])


def _entry(file: str, item: Mapping[str, Any]) -> Entry:
    subject = str(item.get("subject"))
    kinds = [kind for kind in registry.all_types().values() if kind.subject == subject]
    if set(item) != (_OURS if kinds else _OUTSIDE) or not is_subject(subject):
        raise CatalogueUnfit(
            f"{file}: {subject} is not a valid subject, or its entry has missing or unknown fields"
        )
    if kinds:
        return Entry(_ours(item, kinds), file, "mesh")
    versions = tuple(map(_version, item["versions"]))
    if [version.version for version in versions] != list(range(1, len(versions) + 1)):
        raise CatalogueUnfit(f"{file}: the versions of {subject} are not 1, 2, …")
    return Entry(
        _type(item, str(item["owner"]), item["key_field"], versions), file, item["schema_by"]
    )


def _ours(item: Mapping[str, Any], kinds: list[registry.EventType]) -> EventType:
    kinds = sorted(kinds, key=lambda kind: kind.version)
    versions = tuple(Version(k.version, protobuf_message=k.message_name) for k in kinds)
    return _type(item, kinds[-1].owner, kinds[-1].key_field, versions)


def _type(
    item: Mapping[str, Any], owner: str, key_field: str, versions: tuple[Version, ...]
) -> EventType:
    return EventType(
        subject=item["subject"],
        owner=owner,
        consumers=tuple(item["consumers"]),
        description=item["description"],
        key_field=key_field,
        versions=versions,
        built_in=True,
    )


def _version(item: Mapping[str, Any]) -> Version:
    text = json.dumps(item["json_schema"], indent=2, ensure_ascii=False)
    schemas.read(text)
    cutover_at = item.get("cutover_at")
    return Version(
        version=item["version"],
        json_schema=text,
        published_at=datetime.fromisoformat(item["published_at"]),
        cutover_at=datetime.fromisoformat(cutover_at) if cutover_at else None,
    )
