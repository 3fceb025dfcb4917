"""Exceptions as one line on standard error and an exit code."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import NoReturn

import typer

import dlra
from dlra.errors import TrainingError

FAILED, BAD_ARGUMENTS, INTERRUPTED = 1, 2, 130


@contextlib.contextmanager
def exit_on_error(debug: bool, *, bad_input: bool = False, os_errors: int | None = None) -> Iterator[None]:
    """Turn an exception into one line on standard error and an exit code.

    ``bad_input``: ValueError, TypeError and ImportError mean bad arguments here, and OSError too unless
    ``os_errors`` tells otherwise.
    """
    try:
        yield
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED, debug)
    except (dlra.SolveError, TrainingError) as error:
        _leave(f"error: {error}", FAILED, debug)
    except OSError as error:
        code = os_errors if os_errors is not None else BAD_ARGUMENTS if bad_input else FAILED
        _leave(f"error: {error}", code, debug)
    except (ValueError, TypeError, ImportError) as error:
        _leave(f"error: {error}", BAD_ARGUMENTS if bad_input else FAILED, debug)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        text = f"error: unexpected {type(error).__name__}: {str(error)[:300]}"
        _leave(text if debug else f"{text} (--debug shows where)", FAILED, debug)


def _leave(text: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    typer.echo(" ".join(text.split()), err=True)
    raise typer.Exit(code)
