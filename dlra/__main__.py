"""``python -m dlra`` is the ``dlra`` command."""

from dlra.cli import main

if __name__ == "__main__":
    main()
