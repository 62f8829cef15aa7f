"""Prints what the benches measured, as one table."""

from __future__ import annotations

import pytest

from tests.support.measures import figures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table behind the last test."""
    if figures.ROWS:
        terminalreporter.write_line("")
        for line in figures.table().splitlines():
            terminalreporter.write_line(line)
