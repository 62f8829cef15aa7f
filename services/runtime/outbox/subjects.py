"""Subjects and patterns: what an event is called and how a reader names the ones it wants.

Grammar (seed 004): `<resource>.<verb>[.<modifier>]`, 2 to 4 segments of `[a-z0-9_-]+`; a pattern is a
subject, a leading part followed by `.*`, or `*` for everything. From the second version of a schema on the
version stands behind the subject (`order.created.v2`); the first is implied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SUBJECT_CHARS_MAX = 200

_SEGMENT = r"[a-z0-9_-]+"
_SUBJECT = re.compile(rf"{_SEGMENT}(\.{_SEGMENT}){{1,3}}")
# Four segments and `.*` are all versions of a subject of four, but the first.
_LEADING_PART = re.compile(rf"{_SEGMENT}(\.{_SEGMENT}){{0,3}}\.\*")
_VERSION_SUFFIX = re.compile(r"\.v([1-9][0-9]{0,3})$")


def is_subject(text: str) -> bool:
    """True when the text can name a type of events: a subject without the suffix of a version."""
    return (
        len(text) <= SUBJECT_CHARS_MAX
        and _SUBJECT.fullmatch(text) is not None
        and _VERSION_SUFFIX.search(text) is None
    )


def split_version(text: str) -> tuple[str, int]:
    """Return subject and version of what an event is called; the first version is implied.

    Raises:
        ValueError: the text breaks the grammar.
    """
    suffix = _VERSION_SUFFIX.search(text)
    subject = text[: suffix.start()] if suffix else text
    if not is_subject(subject):
        raise ValueError(
            f"{text!r} is not a valid subject: use 2 to 4 segments of a-z, 0-9, _ and - joined by dots, "
            "and .v2 at the end from the second version on"
        )
    return subject, int(suffix[1]) if suffix else 1


def with_version(subject: str, version: int) -> str:
    """Return what events of a version are called."""
    return subject if version == 1 else f"{subject}.v{version}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A subject or all subjects that start with a text.

    Attributes:
        text: the subject, or what the subjects start with (`invoice.`; empty for all).
        is_prefix: true when `text` is a start.
    """

    text: str
    is_prefix: bool

    @classmethod
    def parse(cls, pattern: str) -> Pattern:
        """Read a pattern. Raises ValueError when it breaks the grammar."""
        if pattern == "*":
            return cls("", is_prefix=True)
        if len(pattern) <= SUBJECT_CHARS_MAX and _LEADING_PART.fullmatch(pattern):
            return cls(pattern[:-1], is_prefix=True)
        try:
            subject, version = split_version(pattern)
        except ValueError as error:
            raise ValueError(f"{error}; or a prefix and .*") from None
        return cls(with_version(subject, version), is_prefix=False)

    def matches(self, subject: str) -> bool:
        """True when an event of this subject is meant."""
        return subject.startswith(self.text) if self.is_prefix else subject == self.text

    def matches_type(self, subject: str) -> bool:
        """True when an event of this type is meant, in whatever version; `subject` is without one."""
        if self.is_prefix:
            return subject.startswith(self.text)
        return subject == _VERSION_SUFFIX.sub("", self.text)

    @property
    def written(self) -> str:
        """The pattern as it is written."""
        return f"{self.text}*" if self.is_prefix else self.text

    def bounds(self) -> tuple[str, str]:
        """Return (first, end) of a prefix: subjects >= first and < end, compared byte by byte.

        Ranges, because LIKE uses no index under row-level security. Every character of a subject sorts
        below `~`.
        """
        return self.text, self.text + "~"
