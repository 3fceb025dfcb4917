"""The documentation: its Python runs and prints what it shows, and every name and command in it exists.

Conventions of README.md and docs/*.md:

- the ```python blocks of a page run one after the other in one namespace, in an empty directory;
- a ```text block is what the Python block before it prints where the line before it is ``<!-- output -->``;
  the exception that the block ends with where it is ``<!-- raises -->``; the warnings it gives where it is
  ``<!-- warns -->``. White space does not count, and ... stands for any text;
- ``<!-- needs: torch -->`` before a Python block: it is left out where that package cannot be used.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.util
import io
import re
import shlex
import sys
import tomllib
import traceback
import types
import warnings
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path

import pytest

import dlra

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,})(?P<language>.*)\n(?P<text>(?:.*\n)*?)(?P=fence) *$", re.M)
_MARK = re.compile(r"<!-- (output|raises|warns|needs: \w+) -->\n\Z")
_CHECKER = doctest.OutputChecker()
_LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Block:
    """A Python block of a page, and what the page says it does."""

    line: int
    code: str
    needs: str | None = None
    shown: dict[str, str] = field(default_factory=dict)  # "output", "raises", "warns"


def blocks_of(page: Path) -> list[Block]:
    """The Python blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    for fence in _FENCE.finditer(text):
        mark = _MARK.search(text, 0, fence.start())
        what = mark[1] if mark else ""
        line = text.count("\n", 0, fence.start()) + 1
        language = fence["language"].strip()
        if language == "python":
            needs = what.removeprefix("needs: ") if what.startswith("needs: ") else None
            blocks.append(Block(line, fence["text"], needs))
        elif what:
            assert language == "text" and blocks, f"{page.name}:{line}: <!-- {what} --> marks no text"
            blocks[-1].shown[what] = fence["text"]
    return blocks


def usable(package: str) -> bool:
    if importlib.util.find_spec(package) is None:
        return False
    if package == "cupy":
        return importlib.import_module("cupy").cuda.is_available()
    return True


def run(page: Path, block: Block, namespace: dict) -> dict[str, str]:
    """Run a block; return what it printed, raised and warned of."""
    printed, raised = io.StringIO(), ""
    # Blank lines in front, so that a traceback shows the line of the page.
    code = compile("\n" * block.line + block.code, str(page), "exec", dont_inherit=True)
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        try:
            exec(code, namespace)
        except Exception as error:
            if "raises" not in block.shown:
                pytest.fail(f"{page.name}:{block.line} failed:\n{traceback.format_exc()}", pytrace=False)
            raised = f"{type(error).__name__}: {error}\n"
    ours = [w for w in caught if issubclass(w.category, (dlra.DlraWarning, RuntimeWarning))]
    warned = "".join(f"{w.category.__name__}: {w.message}\n" for w in ours)
    return {"output": printed.getvalue(), "raises": raised, "warns": warned}


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """An empty directory, no display, and JAX's precision as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    jax = importlib.import_module("jax") if "jax" in sys.modules or usable("jax") else None
    before = jax.config.jax_enable_x64 if jax else None
    yield
    if jax:
        jax.config.update("jax_enable_x64", before)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_python_of_page_runs(page, clean, monkeypatch):
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # where dataclasses look for it
    for block in blocks_of(page):
        if block.needs and not usable(block.needs):
            continue
        found = run(page, block, vars(module))
        for what, text in found.items():
            shown = block.shown.get(what, "")
            if what == "output" and what not in block.shown:
                continue  # a page need not show what a block prints
            if not _CHECKER.check_output(shown, text, _LOOSE):
                pytest.fail(
                    f"{page.name}:{block.line} {what}:\n{text}\nbut the page shows:\n{shown}", pytrace=False
                )


def mentions(pattern: str) -> list[tuple[str, str]]:
    """(page, match) for every distinct match of the pattern, or of its first group."""
    found = set()
    for page in PAGES:
        for match in re.finditer(pattern, page.read_text(encoding="utf-8")):
            found.add((page.name, match[1] if match.re.groups else match[0]))
    return sorted(found)


def exists(name: str) -> bool:
    """Tell whether a dotted name leads somewhere; fields of a dataclass count."""
    head, *rest = name.split(".")
    thing = importlib.import_module(head)
    for part in rest:
        if is_dataclass(thing) and part in thing.__dataclass_fields__:
            return True
        if not hasattr(thing, part):
            try:
                thing = importlib.import_module(f"{thing.__name__}.{part}")
            except (ImportError, AttributeError):
                return False
        else:
            thing = getattr(thing, part)
    return True


@pytest.mark.parametrize(("page", "name"), mentions(r"\bdlra(?:\.[A-Za-z_]\w*)+"))
def test_name_exists(page, name):
    assert exists(name), f"{page} mentions {name}"


@pytest.mark.parametrize(
    ("page", "name"), mentions(rf"`((?:{'|'.join(n for n in dlra.__all__ if n[0].isupper())})\.[a-z]\w*)")
)
def test_member_exists(page, name):
    assert exists(f"dlra.{name}"), f"{page} mentions {name}"


@pytest.mark.parametrize("name", [*dlra.__all__, *(f"nn.{name}" for name in dlra.nn.__all__)])
def test_public_name_is_in_the_api_reference(name):
    assert re.search(rf"dlra\.{name}\b", (ROOT / "docs/api.md").read_text(encoding="utf-8"))


def commands() -> list[tuple[str, str]]:
    """(page, command line) for the commands in console blocks and in code spans."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
        for fence in _FENCE.finditer(text):
            if fence["language"].strip() in ("", "console"):
                lines += [line.removeprefix("$ ") for line in fence["text"].splitlines()]
        for line in lines:
            line = re.sub(r"^(?:[A-Z_]+=\S+ +)*(?:\.venv/bin/)?", "", line.partition("  #")[0]).strip()
            if re.match(r"(make|dlra|python3? -m) [a-z]", line):
                found.add((page.name, line))
    return sorted(found)


def command_line() -> dict[str, set[str]]:
    """The commands of dlra and their options."""
    typer = pytest.importorskip("typer")
    cli = importlib.import_module("dlra.cli")
    found = {}
    for name, command in typer.main.get_command(cli.app).commands.items():
        found[name] = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_exists(page, line):
    program, *words = shlex.split(line)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in (word for word in words if "=" not in word):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page} mentions make {target}"
    elif program == "dlra":
        known = command_line()
        assert words[0] in known, f"{page} mentions dlra {words[0]}"
        for word in words[1:]:
            assert not word.startswith("-") or word in known[words[0]], f"{page} mentions {line}"
        if words[0] == "solve" and len(words) > 1:
            assert words[1] in (*dlra.problems.names(), "PROBLEM"), f"{page} mentions {line}"
    else:
        assert importlib.util.find_spec(words[1]), f"{page} mentions {line}"


@pytest.mark.parametrize(
    ("page", "names"), [("files.md", ("solve",)), ("networks.md", ("train", "evaluate", "prune", "compare"))]
)
def test_options_of_commands_are_those_of_the_table(page, names):
    listed = re.findall(r"^\| (`-.*?) \|", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M)
    shown = {option for row in listed for option in re.findall(r"`(--?[a-z0-9-]+)", row)}
    known = command_line()
    assert shown == {option for name in names for option in known[name] if option.startswith("-")}


@pytest.mark.parametrize(("page", "extras"), mentions(r"(?:dlra|['\"]\.)\[([a-z0-9,]+)\]"))
def test_extra_exists(page, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    assert all(extra in known for extra in extras.split(",")), f"{page} mentions the extras {extras}"


@pytest.mark.parametrize(("page", "target"), mentions(r"\]\((?!https?:|#|mailto:)([^)\s#]+)"))
def test_link_leads_somewhere(page, target):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    assert any((folder / name).exists() for name in (target, f"{target}.md")), f"{page} links to {target}"


def test_every_page_is_in_a_list_of_pages():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = {
        line.strip() for toc in re.findall(r"```\{toctree\}(.*?)```", index, re.S) for line in toc.split("\n")
    }
    assert {page.stem for page in PAGES[1:]} - {"index"} <= listed
