"""`tollmesh` and `python -m services.cli`."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from services.runtime.process.heap import loading

if TYPE_CHECKING:
    from services.cli.errors import CliError

EXIT_INTERRUPTED = 130
# gRPC would log to standard error what our own error messages already say.
_QUIET = {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}


def main() -> None:
    """Run the command line; ends the process with one of the documented exit codes."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        # Imported here: Ctrl-C may come while it loads.
        with loading():
            from services.cli.app import app  # noqa: PLC0415
            from services.cli.asked import begin  # noqa: PLC0415

        if begin(sys.argv[1:]):
            # Its own errors are ours to print then; an exit, as after --help, comes back as its code.
            ended = app(prog_name="tollmesh", standalone_mode=False)
            sys.exit(ended if isinstance(ended, int) else 0)
        app(prog_name="tollmesh")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    """Print what went wrong and what to do next; return the exit code."""
    from typer import TyperException  # noqa: PLC0415

    from services.cli.errors import EXIT_FAULT, EXIT_USAGE, CliError  # noqa: PLC0415
    from services.cli.output import ReaderGone, leave_reader, show_error  # noqa: PLC0415

    if isinstance(error, ReaderGone):
        # As in `tollmesh events tail | head -1`: nobody reads the rest, so nothing is left to flush.
        leave_reader()
        return 0
    if isinstance(error, CliError):
        show_error(error)
        return error.exit_code
    if isinstance(error, TyperException):
        return _explain(_wrong_usage(error))
    # A file's name may hold bytes that aren't UTF-8; nothing that is sent may.
    if isinstance(error, UnicodeEncodeError) and any(error.object in word for word in sys.argv[1:]):
        show_error(CliError(f"{error.object[:64]!r} isn't valid UTF-8", exit_code=EXIT_USAGE))
        return EXIT_USAGE
    if os.environ.get("TOLLMESH_TRACEBACK"):
        traceback.print_exception(error)
    fault = CliError(
        f"internal error: {type(error).__name__}: {error}",
        "please report it with the traceback: run the command again with TOLLMESH_TRACEBACK=1 in front",
        exit_code=EXIT_FAULT,
    )
    show_error(fault)
    return fault.exit_code


def _wrong_usage(error: Any) -> CliError:
    """Return our error for one of the parser's."""
    from services.cli.errors import EXIT_USAGE, CliError  # noqa: PLC0415

    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "tollmesh"
    return CliError(error.format_message(), f"see {command} --help", exit_code=EXIT_USAGE)


if __name__ == "__main__":
    main()
