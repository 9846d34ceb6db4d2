"""What surrounds every command: errors in one line, exit codes, no secret in any output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from leadertag.cli import exits
from leadertag.errors import BackendError, HookError, LeaderTagError
from leadertag.plain import one_line, printable


def new_namespace(*, json: bool = False) -> argparse.Namespace:
    """Return the namespace of a command line: what an error needs is known before parsing."""
    return argparse.Namespace(json=json, verbose=0, log_level=None, config=None, secrets=set[str]())


def guarded(body: Callable[[], int], args: argparse.Namespace) -> int:
    """Run ``body`` and return its exit code, or that of the error that ended it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name from a registry must not end the program in an ASCII terminal.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = body()
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        return _nobody_reads()
    except LeaderTagError as error:
        temporary = isinstance(error, BackendError | HookError)
        return _report(args, str(error), exits.UNSETTLED if temporary else exits.FAILING, error)
    except Exception as error:  # noqa: BLE001 - the last resort, told in one line
        hint = "" if args.verbose else " (-v shows the traceback)"
        text = f"internal error: {type(error).__name__}: {error}{hint}; please report this"
        return _report(args, text, exits.FAILING, error)


def _report(args: argparse.Namespace, text: str, code: int, error: Exception) -> int:
    try:
        if args.verbose:
            print(printable(_redact(_traceback(error), args)), file=sys.stderr, end="")
        line = one_line(_redact(text, args))
        if args.json:
            import json

            print(json.dumps({"error": line, "exit_code": code}), flush=True)
        else:
            print(f"leadertag: {line}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _nobody_reads()
    return code


def _traceback(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _redact(text: str, args: argparse.Namespace) -> str:
    from leadertag.config.secrets import is_secret, redacted

    environment = {value for name, value in os.environ.items() if is_secret(name)}
    return redacted(text, environment | args.secrets)


def _nobody_reads() -> int:
    # Else the interpreter complains of the broken pipe once more when it ends.
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(null, stream.fileno())
    os.close(null)
    return exits.UNSETTLED
