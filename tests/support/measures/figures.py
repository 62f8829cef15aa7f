"""Figures of the benches: told as rows while they run, printed as one table at the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        area: part of the mesh, e.g. `metering`.
        what: what was measured.
        figure: the value with its unit.
        floor: what it is set against, measured in the same run; empty when it stands alone.
        ratio: figure against floor.
        target: what it should keep to.
    """

    area: str
    what: str
    figure: str
    floor: str = ""
    ratio: str = ""
    target: str = ""


ROWS: list[Row] = []


def tell(
    area: str, what: str, figure: str, *, floor: str = "", ratio: str = "", target: str = ""
) -> None:
    """Record a figure for the table."""
    ROWS.append(Row(area, what, figure, floor, ratio, target))


def table() -> str:
    """Render every row as a Markdown table, as `docs/benchmarks.md` keeps it."""
    header = ("area", "what", "figure", "floor", "ratio", "target")
    cells = [header, *((r.area, r.what, r.figure, r.floor, r.ratio, r.target) for r in ROWS)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
