"""What a command was asked to print: known before its arguments are parsed, and before anything large is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(slots=True)
class Document:
    """The one JSON document of a command.

    Attributes:
        wanted: the command was asked for JSON.
        printed: it has printed its result.
    """

    wanted: bool = False
    printed: bool = False


document = Document()


def begin(arguments: Sequence[str]) -> bool:
    """Begin a command; returns whether its arguments ask for JSON. Known before they are parsed, which may fail."""
    options = list(arguments)
    if "--" in options:
        del options[options.index("--") :]
    asked = {"-ojson", "--output=json"} & {*options}
    document.wanted = bool(asked) or any(
        option in ("-o", "--output") and value == "json" for option, value in pairwise(options)
    )
    document.printed = False
    return document.wanted
