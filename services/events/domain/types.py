"""Types of events: what came with the release, what tenants register, and which versions may be published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches

from services.events.domain import compatibility, payloads, schemas
from services.runtime.errors import Code, DomainError, InvalidField

CUTOVER_AFTER = timedelta(days=14)
TYPES_MAX = 1000


class TypeUnknown(DomainError):
    """No such type, or no such version of it."""

    code = Code.NOT_FOUND
    reason = "EVENT_TYPE_UNKNOWN"
    state_dependent = True
    subject: str
    version: int | None = None
    pointer: str | None = None


def unknown_subject(subject: str, known: Sequence[str]) -> TypeUnknown:
    """Refuse a subject or pattern that no type has, and say what may have been meant."""
    near = get_close_matches(subject, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return TypeUnknown(
        f"there is no event type {subject}. {meant}ListEventTypes lists them",
        subject=subject,
    )


class SubjectOwned(DomainError):
    """A service of the mesh owns the subject."""

    code = Code.PERMISSION_DENIED
    reason = "EVENT_SUBJECT_OWNED"
    state_dependent = True
    subject: str
    owner: str
    pointer: str


class VersionRetired(DomainError):
    """A later version has taken the place of this one."""

    code = Code.FAILED_PRECONDITION
    reason = "EVENT_VERSION_RETIRED"
    state_dependent = True
    subject: str
    version: int
    pointer: str


class TypesFull(DomainError):
    """A tenant has as many types as it may."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "EVENT_TYPES_FULL"
    state_dependent = True
    types_max: int


@dataclass(frozen=True, slots=True)
class Version:
    """One schema of a payload; just one of the first two texts is set.

    Attributes:
        version: from 1.
        json_schema: JSON Schema 2020-12.
        protobuf_message: full name of a message of ours.
        published_at: when it was registered; None for messages of ours.
        cutover_at: when the version before it ends; None for the first.
    """

    version: int
    json_schema: str = ""
    protobuf_message: str = ""
    published_at: datetime | None = None
    cutover_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event.

    Attributes:
        subject: what its events are called, without a version.
        owner: who publishes it.
        consumers: who reads it.
        description: what it says.
        key_field: property of the payload that orders its events; empty for none.
        versions: oldest first.
        built_in: it came with the release.
    """

    subject: str
    owner: str
    consumers: tuple[str, ...]
    description: str
    key_field: str
    versions: tuple[Version, ...]
    built_in: bool = False

    @property
    def is_ours(self) -> bool:
        """True when a service of the mesh publishes it."""
        return any(version.protobuf_message for version in self.versions)

    def publishable(self, version: int, now: datetime) -> Version:
        """Return the version that an outside producer asks for.

        Raises:
            SubjectOwned: a service of the mesh publishes it, and nobody else.
            TypeUnknown: there is no such version.
            VersionRetired: a later one has taken its place.
        """
        self.refuse_if_ours()
        found = {item.version: item for item in self.versions}.get(version)
        if found is None:
            raise unknown(self.subject, version)
        for later in self.versions[version:]:
            if later.cutover_at is not None and later.cutover_at <= now:
                raise VersionRetired(
                    f"version {version} of {self.subject} ended on {later.cutover_at:%Y-%m-%d}; "
                    f"publish version {later.version}",
                    pointer="/schema_version",
                    subject=self.subject,
                    version=version,
                )
        return found

    def refuse_if_ours(self) -> None:
        """Raise SubjectOwned when a service of the mesh owns it."""
        if self.is_ours:
            raise SubjectOwned(
                f"{self.subject} is published only by the mesh's own service {self.owner}; "
                "choose another subject",
                pointer="/subject",
                subject=self.subject,
                owner=self.owner,
            )


def unknown(subject: str, version: int) -> TypeUnknown:
    """Make the error for what is not registered."""
    return TypeUnknown(
        f"version {version} of {subject} is not registered; register it with RegisterEventTypes",
        pointer="/subject",
        subject=subject,
        version=version,
    )


def merged(built_in: EventType | None, registered: EventType | None) -> EventType | None:
    """Lay a tenant's registration over what came with the release: version by version."""
    if built_in is None or registered is None or built_in.is_ours:
        return built_in or registered
    versions = {item.version: item for item in (*built_in.versions, *registered.versions)}
    return replace(registered, versions=tuple(versions[number] for number in sorted(versions)))


@dataclass(frozen=True, slots=True)
class Registration:
    """What a registration comes to.

    Attributes:
        type: the type as it will stand.
        changed: versions that are new or changed.
        is_new: nothing stood there, or something other than the versions changed.
    """

    type: EventType
    changed: tuple[Version, ...]
    is_new: bool

    @property
    def is_same(self) -> bool:
        """True when all of it stood there already."""
        return not self.changed and not self.is_new


def register(current: EventType | None, declared: EventType, now: datetime) -> Registration:
    """Judge a registration against what stands.

    Raises:
        SubjectOwned: a service of the mesh owns the subject.
        InvalidField: a version is missing, or comes twice, or is a message of ours, or its cutover is past.
        SchemaInvalid: a schema is none.
        SchemaBreaking: a version changed by more than additions.
    """
    if current is not None:
        current.refuse_if_ours()
    versions = {item.version: item for item in (current.versions if current else ())}
    if not declared.versions and not versions:
        raise _at("/versions", "a type needs at least one version")
    changed = []
    for index, item in enumerate(_ordered(declared.versions)):
        if item.version > len(versions) + 1:
            raise _at(f"/versions/{index}/version", f"the next version is {len(versions) + 1}")
        stands = versions.get(item.version)
        wanted = _judged(stands, item, now, f"/versions/{index}")
        versions[item.version] = wanted
        if wanted != stands:
            changed.append(wanted)
    type_ = replace(declared, versions=tuple(versions[n] for n in sorted(versions)), built_in=False)
    return Registration(type_, tuple(changed), current is None or _said(current) != _said(type_))


def _ordered(versions: Sequence[Version]) -> list[Version]:
    numbers = [item.version for item in versions]
    if len(set(numbers)) < len(numbers):
        raise _at("/versions", "a version is given twice")
    return sorted(versions, key=lambda item: item.version)


def _judged(stands: Version | None, declared: Version, now: datetime, place: str) -> Version:
    """Return a version as it will stand."""
    if not declared.json_schema:
        raise _at(
            f"{place}/json_schema",
            "give a JSON Schema; the mesh's own messages need no registration",
        )
    schema = schemas.read(declared.json_schema)
    if stands is None:
        cutover_at = _cutover(declared, now, place)
        return replace(declared, published_at=now, cutover_at=cutover_at)
    cutover_at = stands.cutover_at
    if declared.cutover_at not in (None, stands.cutover_at):
        if cutover_at is None or cutover_at <= now:
            raise _at(f"{place}/cutover_at", "it is in the past and cannot be moved")
        cutover_at = _cutover(declared, now, place)
    before = schemas.read(stands.json_schema)
    if payloads.canonical(before) == payloads.canonical(schema):
        return replace(stands, cutover_at=cutover_at)
    compatibility.check_additive(before, schema)
    return replace(stands, json_schema=declared.json_schema, cutover_at=cutover_at)


def _cutover(declared: Version, now: datetime, place: str) -> datetime | None:
    if declared.version == 1:
        if declared.cutover_at is not None:
            raise _at(
                f"{place}/cutover_at", "the first version replaces none, so it has no cutover"
            )
        return None
    if declared.cutover_at is not None and declared.cutover_at < now:
        raise _at(f"{place}/cutover_at", "it must not be in the past")
    return declared.cutover_at or now + CUTOVER_AFTER


def _said(type_: EventType) -> Mapping[str, object]:
    return {
        "owner": type_.owner,
        "consumers": type_.consumers,
        "description": type_.description,
        "key_field": type_.key_field,
    }


def _at(pointer: str, message: str) -> InvalidField:
    return InvalidField.one(pointer[1:].replace("/", "."), message, pointer)


@dataclass(frozen=True, slots=True)
class Registered:
    """The verdict on one type.

    Attributes:
        registration: what it came to; None when it was refused.
        version: newest version that stands now, 0 for none.
        error: why it was refused.
    """

    registration: Registration | None
    version: int
    error: DomainError | None = None
