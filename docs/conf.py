"""Sphinx configuration. Neither the build nor the pages read anything from the network."""

import re
from importlib.metadata import version as installed_version

from docutils import nodes
from latex2mathml.converter import convert

project = "dlra"
author = "the dlra developers"
copyright = "2026, the dlra developers"
version = release = installed_version("dlra")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "measured"]  # measured/: parts that pages include
root_doc = "index"
language = "en"

# MyST: pages in Markdown, with $formulas$ and ::: directives
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"  # browsers show it by themselves, without MathJax and its server

# API reference: NumPy-style docstrings; types stand in the docstrings, and once is enough
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_param = False  # types stay text: "array, shape (m, r)" holds no names to link to
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"dlra {release}"
html_static_path = []
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _inline_math(translator, node):
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _displayed_math(translator, node):
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>\n')
    raise nodes.SkipNode


def _plain_bars(app, what, name, obj, options, lines):
    """Let |x| be an absolute value; docstrings use no substitutions."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "... ", ":type", "+-", "| ")):
            lines[i] = re.sub(r"(``.*?``)|\|", lambda match: match[1] or r"\|", line)


def _closed_brackets(app, what, name, obj, options, lines):
    """Let a literal end before ⌉ and ⌋, which docutils does not count as punctuation."""
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"``(?=[⌉⌋])", r"``\\ ", line)


def _plain_references(app, what, name, obj, options, lines):
    """Turn footnotes into a list and their calls [1]_ into text: many docstrings share a page."""
    in_reference = False
    for i, line in enumerate(lines):
        line = re.sub(r"(\[\d+\])_(?!\w)", r"\1", line)
        if found := re.match(r"(\s*)\.\. (\[\d+\].*)", line):
            margin, in_reference = found[1], True
            line = f"{margin}-  {found[2]}"
        elif in_reference and line.startswith(margin + "   "):
            line = f"{margin}   {line.strip()}"
        else:
            in_reference = False
        lines[i] = line


def setup(app):
    app.add_html_math_renderer("mathml", (_inline_math, None), (_displayed_math, None))
    app.connect("autodoc-process-docstring", _plain_bars)
    app.connect("autodoc-process-docstring", _closed_brackets)
    app.connect("autodoc-process-docstring", _plain_references)
