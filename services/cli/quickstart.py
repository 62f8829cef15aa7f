"""The files that a new user needs for a first bill of their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from services.cli.errors import EXIT_FAULT, EXIT_USAGE, CliError

USAGE = "usage.csv"
DOCUMENTS = ("catalog.yaml", "merchant.yaml")
ORG_ID = "acme"
# Of the usage: with the plan of catalog.yaml they make a bill of 35.30 USD.
EVENTS = 240
CALLS = 100
GIGABYTE_HOURS = (100, 110, 120)

_COLUMNS = ("request_id", "org_id", "project_id", "sku", "quantity", "event_time")


def write(folder: Path, now: datetime) -> list[Path]:
    """Write catalogue, merchant and usage into a folder, which is made if needed.

    Args:
        folder: where to.
        now: the usage is spread over the current month, up to then.

    Returns:
        The files.

    Raises:
        CliError: the folder holds one of the files already, or can't be written to. Nothing is overwritten.
    """
    contents = {name: _examples().joinpath(name).read_bytes() for name in DOCUMENTS}
    contents[USAGE] = usage(now).encode()
    files = [folder / name for name in contents]
    if there := [str(file) for file in files if file.exists()]:
        raise CliError(
            f"{', '.join(there)} would be overwritten",
            "use these files, or name another folder",
            exit_code=EXIT_USAGE,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in zip(files, contents.values(), strict=True):
            with file.open("xb") as target:
                target.write(content)
    except OSError as error:
        raise CliError(
            f"{folder}: {error.strerror or error}", "name another folder", exit_code=EXIT_FAULT
        ) from error
    return files


def usage(now: datetime) -> str:
    """Return usage of the current month as CSV: calls of an API, and the storage held."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    lines.writerows(_rows(now.astimezone(UTC)))
    return text.getvalue()


def _rows(now: datetime) -> Iterator[tuple[str, ...]]:
    start_at = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    step = (now - start_at) / EVENTS
    for number in range(EVENTS):
        moment = _whole_ms(start_at + number * step)
        yield (f"calls-{moment}", ORG_ID, "website", "api.calls", str(CALLS), moment)
    for number, quantity in enumerate(GIGABYTE_HOURS):
        moment = _whole_ms(start_at + number * (now - start_at) / len(GIGABYTE_HOURS))
        yield (f"storage-{moment}", ORG_ID, "website", "storage.gb_hours", str(quantity), moment)


def _whole_ms(moment: datetime) -> str:
    # Rounded down: it is never after `now`.
    return (moment - timedelta(microseconds=moment.microsecond % 1000)).isoformat(
        timespec="milliseconds"
    )


def _examples() -> Traversable:
    """Find the documents: in an installed package beside the demo's data, in a checkout where users look for them."""
    packaged = resources.files("services.cli.data").joinpath("quickstart")
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "examples" / "quickstart"
