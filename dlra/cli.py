"""The ``dlra`` command. It needs typer: ``pip install "dlra[cli]"``."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Run the command with the arguments of the process; exits with 0 done, 1 failed, 2 bad arguments."""
    try:
        import typer  # noqa: F401
    except ImportError:
        print('the dlra command needs typer: pip install "dlra[cli]"', file=sys.stderr)
        raise SystemExit(1) from None
    from dlra._cli.app import app

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal without Unicode shows question marks
    app()


def __getattr__(name: str) -> Any:
    """Import the typer application when it is first asked for."""
    if name == "app":
        from dlra._cli.app import app

        return app
    raise AttributeError(f"module 'dlra.cli' has no attribute {name!r}")
