"""Which column of a file fills which field of an event, or of a transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.cli.errors import EXIT_USAGE, CliError

FIELDS = ("request_id", "org_id", "project_id", "sku", "quantity", "event_time", "source")
REQUIRED = ("request_id", "org_id", "sku", "quantity", "event_time")
METADATA = "metadata"
METADATA_PREFIX = "metadata."
# As JSON of the service writes it.
_ALSO = {"time": "eventtime"}


class ColumnsUnclear(ValueError):
    """Two columns say the same; nothing tells which one counts."""


@dataclass(frozen=True, slots=True)
class Places:
    """Which column holds which value of an item.

    Attributes:
        fields: field to column.
        own: key of the metadata to a column `metadata.<key>` of the file.
        mapped: key of the metadata to a column that `--map` names.
        container: the column that holds metadata as a whole, or None.
    """

    fields: Mapping[str, str]
    own: Mapping[str, str]
    mapped: Mapping[str, str]
    container: str | None

    def used(self) -> set[str]:
        """Return every column that is read."""
        found = {*self.fields.values(), *self.own.values(), *self.mapped.values()}
        return found | ({self.container} if self.container is not None else set())


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Where each field of an item comes from.

    Attributes:
        columns: field to column; a field that is not named comes from the column of its own name.
        constants: field to the value that every item gets.
        fields: of an item.
        required: those of them that every item needs.
        also: other names of fields, without underscores, to theirs.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[str] = FIELDS
    required: Sequence[str] = REQUIRED
    also: Mapping[str, str] = field(default_factory=lambda: _ALSO)

    @classmethod
    def parse(cls, columns: list[str], constants: list[str]) -> ColumnMapping:
        """Read the pairs of an event. Raises CliError as `parsed` does."""
        return cls().parsed(columns, constants)

    def parsed(self, columns: list[str], constants: list[str]) -> ColumnMapping:
        """Read `field=column` and `field=value` pairs.

        Raises:
            CliError: a pair has no `=`, the field is none of an item's, or it is given twice.
        """
        pairs = [_pair(text, self.fields) for text in (*columns, *constants)]
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise CliError(f"{', '.join(twice)} is given more than once", exit_code=EXIT_USAGE)
        return replace(
            self, columns=dict(pairs[: len(columns)]), constants=dict(pairs[len(columns) :])
        )

    def places(self, names: Sequence[str]) -> Places:
        """Find the columns among the names that records have, however these are spelt.

        Raises:
            ColumnsUnclear: two of them say the same, and no `--map` tells them apart.
        """
        by_plain: dict[str, list[str]] = {}
        own: dict[str, str] = {}
        for name in names:
            plain = _plain(name)
            by_plain.setdefault(self.also.get(plain, plain), []).append(name)
            if name.strip().lower().startswith(METADATA_PREFIX):
                key = name.strip()[len(METADATA_PREFIX) :]
                if key in own and METADATA_PREFIX + key not in self.columns:
                    raise _unclear(name, own[key], METADATA_PREFIX + key)
                own[key] = name
        fields = {
            name: column
            for name in self.fields
            if name not in self.constants and (column := self._column(name, names, by_plain))
        }
        given = [name for name in self.columns if name.startswith(METADATA_PREFIX)]
        mapped = {
            name.removeprefix(METADATA_PREFIX): column
            for name in given
            if (column := self._column(name, names, by_plain))
        }
        return Places(fields, own, mapped, _only(METADATA, by_plain.get(METADATA, [])))

    def _column(
        self, name: str, names: Sequence[str], by_plain: Mapping[str, list[str]]
    ) -> str | None:
        asked = self.columns.get(name)
        if asked is None:
            return _only(name, by_plain.get(_plain(name), []))
        if asked in names:
            return asked
        return _only(name, [other for other in names if _plain(other) == _plain(asked)])

    def absent(self, places: Places) -> list[str]:
        """Return the columns that `--map` names and that were not found."""
        found = {
            **places.fields,
            **{METADATA_PREFIX + key: at for key, at in places.mapped.items()},
        }
        return sorted({asked for name, asked in self.columns.items() if name not in found})

    def check_header(self, names: Sequence[str]) -> Places:
        """Find the columns in the header of a file, which all its records have.

        Raises:
            CliError: a column stands twice, one that is needed or named by `--map` is missing, or two say the same.
        """
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise CliError(
                f"the file has more than one column named {', '.join(twice)}", exit_code=EXIT_USAGE
            )
        try:
            places = self.places(names)
        except ColumnsUnclear as error:
            raise CliError(f"the file {error}", exit_code=EXIT_USAGE) from error
        needed = (name for name in self.required if name not in {**self.constants, **places.fields})
        missing = [name for name in needed if name not in self.columns]
        if missing := [*missing, *self.absent(places)]:
            raise no_column(missing, names)
        return places


def no_column(missing: Sequence[str], names: Sequence[str]) -> CliError:
    """Return the error for missing columns."""
    return CliError(
        f"the file has no column {', '.join(missing)}; it has {', '.join(names[:30])}",
        "map a column to the field with --map field=column, or set one value for all rows with --set field=value",
        exit_code=EXIT_USAGE,
    )


def _plain(name: str) -> str:
    """Return a name as all its spellings share it: `Request_ID`, `requestId` and ` request_id` are one."""
    return name.strip().lower().replace("_", "")


def _only(field_name: str, found: Sequence[str]) -> str | None:
    if len(found) > 1:
        raise _unclear(found[0], found[1], field_name)
    return found[0] if found else None


def _unclear(one: str, other: str, field_name: str) -> ColumnsUnclear:
    hint = "remove one of them"
    if field_name != METADATA:
        hint = f"choose one with --map {field_name}=…"
    return ColumnsUnclear(f"has {field_name} in two columns, {one!r} and {other!r}: {hint}")


def _pair(text: str, fields: Sequence[str]) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    key = name.removeprefix(METADATA_PREFIX)
    if not separator or (name not in fields and (key == name or not key)):
        raise CliError(
            f"{text!r} is not of the form field=value; the fields are {', '.join(fields)}, metadata.<key>",
            exit_code=EXIT_USAGE,
        )
    return name, value
