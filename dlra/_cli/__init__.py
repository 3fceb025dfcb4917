"""The ``dlra`` command, behind :mod:`dlra.cli`. Only this package and :mod:`dlra.demo` print."""
