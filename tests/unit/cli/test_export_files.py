"""What is exported: exact in every format, and a file whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import pytest
from pyarrow import parquet

from services.cli import export_files, periods, tables
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.export_files import FileFormat, export
from services.cli.output import ReaderGone
from services.cli.tables import Column, Kind, Pages, Table


def _column(kind: Kind) -> Column:
    return Column(kind.value, kind, "", lambda item: item.get(kind.value))


TABLE = Table("things", "a thing", tuple(map(_column, Kind)))
EDGES: list[dict[str, Any]] = [
    {
        "text": 'a,"b"\nc',
        "integer": 2**63 - 1,
        "decimal": "99999999999999999999.999999999999999999",
        "time": 253402300799999999,
        "json": '{"n":0.1234567890123456789,\n"ü":1}',
    },
    {
        "text": "日本",
        "integer": -(2**63),
        "decimal": "-0.000000000000000001",
        "time": -1,
        "json": None,
    },
    {},
]


def pages(*broken: BaseException) -> Iterator[Sequence[Any]]:
    yield EDGES[:1]
    yield EDGES[1:]
    for error in broken:
        raise error


def test_csv_holds_every_value_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    assert export(TABLE, pages(), FileFormat.CSV, str(out)) == 3
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"), newline="")))
    assert rows == [
        {
            "text": 'a,"b"\nc',
            "integer": "9223372036854775807",
            "decimal": "99999999999999999999.999999999999999999",
            "time": "9999-12-31T23:59:59.999999Z",
            "json": '{"n":0.1234567890123456789,\n"ü":1}',
        },
        {
            "text": "日本",
            "integer": "-9223372036854775808",
            "decimal": "-0.000000000000000001",
            "time": "1969-12-31T23:59:59.999999Z",
            "json": "",
        },
        dict.fromkeys((kind.value for kind in Kind), ""),
    ]


def test_a_line_of_json_is_a_row_and_numbers_keep_their_digits(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    export(TABLE, pages(), FileFormat.JSONL, str(out))
    first, second, third = out.read_text("utf-8").splitlines()
    assert '"json":{"n":0.1234567890123456789, "ü":1}' in first
    assert json.loads(first)["integer"] == "9223372036854775807"
    assert json.loads(second)["decimal"] == "-0.000000000000000001"
    assert set(json.loads(third).values()) == {None}


def test_parquet_has_integers_decimals_and_times(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    export(TABLE, pages(), FileFormat.PARQUET, str(out))
    found = parquet.read_table(out)
    types = {field.name: str(field.type) for field in found.schema}
    assert types == {
        "text": "string",
        "integer": "int64",
        "decimal": "decimal128(38, 18)",
        "time": "timestamp[us, tz=UTC]",
        "json": "string",
    }
    rows = found.to_pylist()
    assert rows[0]["decimal"] == Decimal("99999999999999999999.999999999999999999")
    assert [row["integer"] for row in rows] == [2**63 - 1, -(2**63), None]
    assert rows[0]["time"] == datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert set(rows[2].values()) == {None}


def test_a_decimal_that_parquet_cannot_hold_is_an_error(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    wide = [{"decimal": "123456789012345678901.5"}]
    with pytest.raises(CliError, match="does not fit a decimal of 38 digits") as told:
        export(TABLE, [wide], FileFormat.PARQUET, str(out))
    assert "csv" in told.value.hints[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", list(FileFormat))
@pytest.mark.parametrize("error", [CliError("the mesh is gone"), KeyboardInterrupt()])
def test_nothing_half_written_stays(
    tmp_path: Path, file_format: FileFormat, error: BaseException
) -> None:
    out = tmp_path / "a"
    out.write_text("before")
    with pytest.raises(type(error)):
        export(TABLE, pages(error), file_format, str(out))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert out.read_text() == "before"


def test_sigterm_leaves_nothing_behind_either(tmp_path: Path) -> None:
    def told_to_end() -> Iterator[Sequence[Any]]:
        yield EDGES
        os.kill(os.getpid(), signal.SIGTERM)
        yield EDGES

    with pytest.raises(KeyboardInterrupt):
        export(TABLE, told_to_end(), FileFormat.CSV, str(tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CliError, match="No space left on device") as told:
        export(TABLE, pages(), FileFormat.CSV, str(tmp_path / "a.csv"))
    assert told.value.exit_code == EXIT_USAGE
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CliError, match="cannot write"):
        export(TABLE, pages(), FileFormat.CSV, str(tmp_path / "none" / "a.csv"))


def test_a_link_and_a_mode_stay_and_a_device_is_written_to(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to(real)
    export(TABLE, pages(), FileFormat.CSV, str(link))
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert real.read_text().startswith("text,integer")
    assert export(TABLE, pages(), FileFormat.CSV, "/dev/null") == 3


def test_a_pipe_is_written_to_whatever_its_name_leads_to() -> None:
    """As of `>(…)` in a shell: a link in /dev/fd whose target is no path."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as got:
        with os.fdopen(writing, "wb"):
            assert export(TABLE, pages(), FileFormat.CSV, f"/dev/fd/{writing}") == 3
        assert got.readline().startswith(b"text,integer")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb"), pytest.raises(ReaderGone):
        export(TABLE, pages(), FileFormat.CSV, f"/dev/fd/{writing}")


def test_the_ending_tells_the_format() -> None:
    found = [export_files.format_of(None, name) for name in ("a.CSV", "a.jsonl", "a.parquet", "")]
    assert found == ["csv", "jsonl", "parquet", "csv"]
    assert export_files.format_of(FileFormat.CSV, "a.parquet") is FileFormat.CSV


# ---- Pages


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class Response:
    def __init__(self, items: list[int], token: str) -> None:
        self.items, self.next_page_token = items, token


class Request:
    page_token = ""
    page_size = 4


class Mesh:
    """Answers with ten numbers, page by page; fails as it is told first."""

    metadata = ()

    def __init__(self, *fails: grpc.RpcError) -> None:
        self.fails = list(fails)
        self.asked: list[tuple[str, int]] = []
        self.cancelled = 0

    def explain(self, error: grpc.RpcError) -> CliError:
        return CliError(error.code().name)

    def future(self, request: Request, timeout: float, metadata: object) -> Any:
        mesh, start, size = self, int(request.page_token or 0), request.page_size
        self.asked.append((request.page_token, size))
        failure = self.fails.pop(0) if self.fails else None

        class Future:
            def result(self) -> Response:
                if failure is not None:
                    raise failure
                end = start + size
                return Response(list(range(start, min(end, 10))), str(end) if end < 10 else "")

            def cancel(self) -> None:
                mesh.cancelled += 1

        return Future()


def listed(mesh: Any) -> Pages:
    return Pages(mesh, mesh, Request(), "items")


def test_pages_are_asked_for_one_ahead() -> None:
    mesh = Mesh()
    pages = iter(listed(mesh))
    assert list(next(pages)) == [0, 1, 2, 3]
    assert [token for token, _ in mesh.asked] == ["", "4"]
    assert [list(page) for page in pages] == [[4, 5, 6, 7], [8, 9]]
    assert len(mesh.asked) == 3


def test_a_page_that_fails_is_asked_for_again_and_one_too_large_in_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    away = Failed(grpc.StatusCode.UNAVAILABLE)
    large = Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)")
    mesh = Mesh(away, away, large)
    assert [item for page in listed(mesh) for item in page] == list(range(10))
    assert len(waits) == 2
    assert mesh.asked[:4] == [("", 4), ("", 4), ("", 4), ("", 2)]
    gone = Mesh(*[away] * 10)
    with pytest.raises(CliError, match="UNAVAILABLE"):
        list(listed(gone))
    assert len(gone.asked) == tables.TRIES_MAX + 1
    refused = Mesh(Failed(grpc.StatusCode.PERMISSION_DENIED))
    with pytest.raises(CliError, match="PERMISSION_DENIED"):
        list(listed(refused))
    assert len(refused.asked) == 1


def test_who_stops_reading_leaves_nothing_under_way() -> None:
    mesh = Mesh()
    pages = iter(listed(mesh))
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert mesh.cancelled == 1


def test_a_period_is_cut_where_the_zone_begins_its_months() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    parts = list(tables.split(periods.parse("2026-03-15/2026-05-02"), berlin, months=True))
    bounds = [(part.start_at.ToJsonString(), part.end_at.ToJsonString()) for part in parts]
    assert bounds == [
        ("2026-03-15T00:00:00Z", "2026-03-31T22:00:00Z"),
        ("2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"),
        ("2026-04-30T22:00:00Z", "2026-05-02T00:00:00Z"),
    ]
    days = list(tables.split(periods.parse("2026-03-28/2026-03-31"), berlin, months=False))
    lengths = [part.end_at.seconds - part.start_at.seconds for part in days]
    assert [length // 3600 for length in lengths] == [23, 23, 24, 2]
