"""Measure the properties of the integrators and write the page: ``python -m validation``."""

from __future__ import annotations

from validation.properties import DOCS, report

text = report()
(DOCS / "properties.md").write_text(text)
print(text)
