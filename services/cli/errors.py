"""Exit codes of the command line, and its errors: what went wrong and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_REFUSED = 4
EXIT_DENIED = 5
EXIT_INCOMPLETE = 6
EXIT_DIFFERENT = 7

EXIT_CODES = """\
Exit codes: 0 success · 1 internal error · 2 usage error · 3 the mesh, its database or a port is unavailable ·
4 the request was refused · 5 API key or scope missing · 6 done in part: some rows or events were not accepted, all
others were; or not all of a file can be verified (`explain --verify`) · 7 there are differences (`diff --exit-code`,
`explain --verify`) or findings (`ledger verify`,
`reconcile usage`) · 130 Ctrl-C.
Errors are printed as text to standard error. With `--output json`, standard output holds only JSON: the result
or, if the command ends without one, {"error": {code, reason, message, metadata, fields, what_to_do, exit_code}}."""

# gRPC's word for an error that no mesh answered with.
_CODES = {
    EXIT_FAULT: "INTERNAL",
    EXIT_USAGE: "INVALID_ARGUMENT",
    EXIT_UNAVAILABLE: "UNAVAILABLE",
    EXIT_DENIED: "PERMISSION_DENIED",
}
_CODE_ELSE = "FAILED_PRECONDITION"
_FIELDS_SHOWN = 20


class CliError(Exception):
    """An error to show: message, what to do next, and the exit code.

    Attributes:
        message: what went wrong.
        hints: next steps, each a sentence.
        exit_code: one of the EXIT_ constants.
        code: name of the gRPC status code; that of the exit code unless a service answered.
        reason: ErrorReason without prefix where a service answered, or what was found in an amount, AMOUNT_AMBIGUOUS.
        metadata: the values of the reason, by name, where a service answered.
        fields: what is wrong with which field, in the order of the answer; the message names the first.
        retry_after_ms: when the same call may be made again; None where nothing was said.
    """

    def __init__(
        self,
        message: str,
        *hints: str,
        exit_code: int = EXIT_REFUSED,
        code: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hints: Sequence[str] = hints
        self.exit_code = exit_code
        self.code = code or _CODES.get(exit_code, _CODE_ELSE)
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.fields = tuple(fields)
        self.retry_after_ms = retry_after_ms

    def lines(self) -> list[str]:
        """Return what stands below the message for people: further fields at fault, then the hints."""
        return [f"{name}: {what}" for name, what in self.fields[1:_FIELDS_SHOWN]] + [*self.hints]

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        found: dict[str, Any] = {
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
            "metadata": self.metadata,
            "fields": [{"field": name, "description": what} for name, what in self.fields],
            "what_to_do": [*self.hints],
            "exit_code": self.exit_code,
        }
        if self.retry_after_ms is not None:
            found["retry_after_ms"] = self.retry_after_ms
        return {"error": found}


class Resumable:
    """Adds to an error how to repeat the command: with these options, or unchanged."""

    def __init__(self, options: str) -> None:
        self._options = options

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A refusal already says what to fix; the same call would be refused again.
        if isinstance(error, CliError) and error.exit_code not in (EXIT_DENIED, EXIT_REFUSED):
            again = f"repeat the command{self._options and ' with '}{self._options}"
            wrong = error.exit_code == EXIT_USAGE
            error.hints = [
                *error.hints,
                f"{'correct this and ' if wrong else ''}{again}: nothing is done twice",
            ]
