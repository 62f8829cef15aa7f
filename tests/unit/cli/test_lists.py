"""Lists of any length: read page by page, printed whole or not at all, in bounded memory."""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from payments.pricing.v1 import catalog_service_pb2, pricing_pb2

from services.cli import asked, lists, output
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import Format, JsonWriter


class Paged:
    """A client of a list of SKUs, and what it was asked for."""

    def __init__(self, count: int, fails_at: int = -1) -> None:
        self.count, self.fails_at = count, fails_at
        self.asked: list[str] = []

    def call(self, method: Any, request: catalog_service_pb2.ListSkusRequest) -> Any:
        self.asked.append(request.page_token)
        start = int(request.page_token or 0)
        if start == self.fails_at:
            raise CliError("the mesh is gone")
        end = min(start + request.page_size, self.count)
        page = catalog_service_pb2.ListSkusResponse(next_page_token=str(end) * (end < self.count))
        page.skus.extend(
            pricing_pb2.Sku(sku=f"s{n}", unit="é\u202e" * 50) for n in range(start, end)
        )
        return page

    def skus(self, page_size: int = lists.PAGE_SIZE) -> Iterator[pricing_pb2.Sku]:
        request = catalog_service_pb2.ListSkusRequest()
        return lists.pages(self, None, request, "skus", page_size)  # type: ignore[arg-type]


def shown(client: Paged, form: Format, limit: int, page_size: int = lists.PAGE_SIZE) -> None:
    lists.show(
        form, "skus", client.skus(page_size), ("sku",), lambda item: (item.sku,), limit=limit
    )


@pytest.mark.parametrize(
    ("limit", "given", "more", "pages"),
    [(0, 2_500, False, 3), (3, 3, True, 1), (1_000, 1_000, True, 2), (2_500, 2_500, False, 3)],
)
def test_a_list_is_read_to_its_end_or_to_its_limit(
    limit: int, given: int, more: bool, pages: int, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Paged(2_500)
    shown(client, Format.JSON, limit)
    document = json.loads(capsys.readouterr().out)
    assert [item["sku"] for item in document["skus"]] == [f"s{n}" for n in range(given)]
    assert (document["more"], len(client.asked)) == (more, pages)
    shown(client, Format.TABLE, limit)
    printed = capsys.readouterr().out
    assert printed.count("│ s") == given
    assert (f"there are more than {limit}" in printed) is more


def test_a_list_that_breaks_off_prints_no_half_of_a_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked.begin(("-o", "json"))
    with pytest.raises(CliError) as failed:
        shown(Paged(2_500, fails_at=2_000), Format.JSON, 0)
    output.show_error(failed.value)
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "the mesh is gone"
    asked.begin(())


def test_a_list_without_items_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Paged(0), Format.JSON, 0)
    assert json.loads(capsys.readouterr().out) == {"skus": [], "more": False}
    shown(Paged(0), Format.TABLE, 0)
    assert capsys.readouterr().out == "nothing found\n"


@pytest.fixture
def collects_often() -> Iterator[None]:
    """Keep peaks free of garbage that waits to be collected, which there is more or less of in each run."""
    before = gc.get_threshold()
    gc.set_threshold(50, 5, 5)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collects_often")
@pytest.mark.parametrize("form", list(Format))
def test_a_long_list_is_not_held(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = []
    monkeypatch.setattr(output, "_DOCUMENT_BYTES_IN_MEMORY", 65_536)
    monkeypatch.setattr(output, "_TABLE_ROWS_MAX", 100)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - no path of a file
        monkeypatch.setattr(sys, "stdout", nowhere)
        monkeypatch.setattr(output.console, "_file", nowhere)
        for count in (1_500, 500, 1_500):
            gc.collect()
            tracemalloc.start()
            shown(Paged(count), form, 0, page_size=50)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # The first fills caches.
    _, short, long = peaks
    assert long < short * 1.5


def test_a_document_is_ascii_where_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    with JsonWriter() as document:
        document.add_list("skus", [{"sku": "é"}])
        document.add("more", "ü")
    assert json.loads(raw.getvalue().decode("ascii")) == {"skus": [{"sku": "é"}], "more": "ü"}


@pytest.mark.parametrize("answer", ["y\n", "YES\n", "n\n", "\n", "", "yesno\n"])
def test_what_cannot_be_undone_is_asked_about(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.StringIO(answer)
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(CliError, match="no terminal") as refused:
        output.confirm("This ends it", yes=False)
    assert refused.value.exit_code == EXIT_USAGE
    assert "--yes" in refused.value.hints[0]
    output.confirm("This ends it", yes=True)
    assert stdin.tell() == 0, "nobody was asked"
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(output.progress_console, "_force_terminal", True)
    if answer.strip().lower() in ("y", "yes"):
        output.confirm("This ends it", yes=False)
    else:
        with pytest.raises(CliError, match="nothing was done"):
            output.confirm("This ends it", yes=False)
    assert "This ends it. Continue? [y/N]" in capsys.readouterr().err


def test_pages_follow_one_another() -> None:
    client = Paged(3_500)
    assert len(list(client.skus())) == 3_500
    assert all(int(a or 0) < int(b) for a, b in pairwise(client.asked))
