"""Exit codes of the command line, and its errors: what went wrong and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_REFUSED = 4
EXIT_DENIED = 5
EXIT_INCOMPLETE = 6

EXIT_CODES = """\
Exit codes: 0 success · 1 internal error · 2 usage error · 3 the mesh, its database or a port is unavailable ·
4 the request was refused · 5 API key or scope missing · 6 done in part: some rows or events were not accepted, all
others were · 130 Ctrl-C.
Errors are printed as text to standard error. With `--output json`, standard output holds only JSON."""


class CliError(Exception):
    """An error to show: message, what to do next, and the exit code.

    Attributes:
        message: what went wrong.
        hints: next steps, each a sentence.
        exit_code: one of the EXIT_ constants.
        reason: ErrorReason without prefix, where a service answered.
    """

    def __init__(
        self, message: str, *hints: str, exit_code: int = EXIT_REFUSED, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hints: Sequence[str] = hints
        self.exit_code = exit_code
        self.reason = reason


class Resumable:
    """Adds to an error how to repeat the command: with these options, or unchanged."""

    def __init__(self, options: str) -> None:
        self._options = options

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A refusal already says what to fix; the same call would be refused again.
        if isinstance(error, CliError) and error.exit_code not in (EXIT_DENIED, EXIT_REFUSED):
            error.hints = [
                *error.hints,
                f"repeat the command{self._options and ' with '}{self._options}: nothing is done twice",
            ]
