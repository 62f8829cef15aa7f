"""What the command line exits with, and how it says what went wrong and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_REFUSED = 4
EXIT_DENIED = 5
EXIT_INCOMPLETE = 6

EXIT_CODES = """\
Exit codes: 0 done · 1 fault of ours · 2 wrong usage · 3 the mesh, its database or a port cannot be had ·
4 the request was refused · 5 key or scope missing · 6 done, but some events were not accepted · 130 Ctrl-C.
Errors go to standard error as text, with `--output json` too: standard output then holds JSON and nothing else."""


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
    """Adds to an error how the command is repeated: with these options, or as it was."""

    def __init__(self, options: str) -> None:
        self._options = options

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A refusal says itself what to mend; the same call would be refused again.
        if isinstance(error, CliError) and error.exit_code not in (EXIT_DENIED, EXIT_REFUSED):
            error.hints = [
                *error.hints,
                f"repeat the command{self._options and ' with '}{self._options}: nothing is done twice",
            ]
