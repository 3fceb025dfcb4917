"""What ``dlra info``, ``dlra problems`` and ``dlra methods`` print."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import platform
import re
import warnings
from importlib import metadata
from typing import Any

import dlra
from dlra import integrators, problems

_EXTRAS = {  # distribution: the extra that brings it
    "typer": "cli",
    "rich": "cli",
    "matplotlib": "plot",
    "h5py": "files",
    "numba": "fast",
    "threadpoolctl": "fast",
    "scikit-learn": "learn",
}


def environment() -> str:
    """Versions, array libraries, threads and GPU, as lines."""
    rows = [
        ("dlra", dlra.__version__),
        ("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
    ]
    rows += [(name, _version(name) or "missing") for name in ("scipy", "array-api-compat")]
    for name, extra in _EXTRAS.items():
        rows.append((name, _version(name) or f'not installed: pip install "dlra[{extra}]"'))
    arrays = [
        ("numpy", f"{_version('numpy')}, usable"),
        ("cupy", _cupy()),
        ("torch", _torch()),
        ("jax", _jax()),
    ]
    sections = {"": rows, "Array libraries": arrays, "Processors": [*_threads(), ("GPU", _gpu())]}
    width = max(len(name) for section in sections.values() for name, _ in section) + 2
    lines: list[str] = []
    for title, section in sections.items():
        lines += ["", title] if title else []
        lines += [f"  {name:<{width}}{value}" for name, value in section]
    return "\n".join(lines)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cupy() -> str:
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        hint = 'not installed: pip install "dlra[cuda13x]", or cuda12x'
        return hint if missing else f"not usable: {_line(error)}"
    try:
        usable = bool(cupy.cuda.is_available())
    except Exception:
        usable = False
    return f"{cupy.__version__}, {'usable' if usable else 'not usable: it finds no GPU'}"


def _torch() -> str:
    if _version("torch") is None:
        return 'not installed: pip install "dlra[torch]"'
    try:
        torch = importlib.import_module("torch")
        cuda = "CPU and CUDA" if torch.cuda.is_available() else "CPU only"
        return f"{torch.__version__}, usable, {cuda}, {torch.get_num_threads()} threads"
    except Exception as error:
        return f"not usable: {_line(error)}"


def _jax() -> str:
    if _version("jax") is None:
        return 'not installed: pip install "dlra[jax]"'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax = importlib.import_module("jax")
            devices = jax.devices()
        double = "on" if jax.config.jax_enable_x64 else "off (dlra solve turns it on)"
        return f"{jax.__version__}, usable, {devices[0].platform.upper()}, double precision {double}"
    except Exception as error:
        return f"not usable: {_line(error)}"


def _threads() -> list[tuple[str, str]]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = [("cores", f"{usable} usable of {os.cpu_count()}")]
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return [*rows, ("BLAS", 'unknown: pip install "dlra[fast]" for threadpoolctl')]
    import scipy.linalg  # noqa: F401  (brings its own BLAS)

    found = {
        f"{pool['internal_api']} {pool.get('version') or ''}".strip() + f", {pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    return [*rows, *(("BLAS", text) for text in sorted(found))]


def _gpu() -> str:
    for name in ("cupy", "torch"):
        try:
            library = importlib.import_module(name)
            if not library.cuda.is_available():
                continue
            if name == "torch":
                return str(library.cuda.get_device_name(0))
            return library.cuda.runtime.getDeviceProperties(0)["name"].decode()
        except Exception:
            continue
    return "none that an array library here can use"


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:100]


# ---- problems


def problem_list() -> str:
    """The problems with one line each."""
    width = max(len(name) for name in problems.names()) + 2
    lines = [f"{name:<{width}}{_first_line(_factory(name))}" for name in problems.names()]
    return "\n".join([*lines, "", "'dlra problems NAME' tells more; 'dlra solve NAME' solves one."])


def problem_page(name: str) -> str:
    """Equation, options, defaults and observables of one problem."""
    problem = problems.get(name)
    text = inspect.getdoc(_factory(problem.name)) or problem.description
    about, _, _ = text.partition("\n\nParameters\n")
    m, n = problem.shape
    options = inspect.signature(_factory(problem.name)).parameters.values()
    own = [f"{p.name}={p.default}" for p in options if p.name not in ("backend", "dtype", "device")]
    defaults = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in _run(problem)
    ]
    rows = [
        ("shape", f"{m} x {n}, {problem.place.dtype}"),
        ("options", "  ".join(f"--set {option}" for option in own)),
        ("defaults", ", ".join(defaults)),
        ("observables", ", ".join(problem.observables)),
        ("reference", "yes" if problem.solution is not None else "none"),
    ]
    return "\n".join([problem.name, "", _plain(about), "", *(f"{key:<13}{value}" for key, value in rows)])


# ---- methods


def method_list() -> str:
    """The integrators with their orders and one line each."""
    width = max(len(name) for name in integrators.names()) + 2
    lines = [f"{'method':<{width}}order  "]
    for name in integrators.names():
        method = integrators.by_name(name)
        lines.append(f"{name:<{width}}{method.order:>5}  {_title(method)}")
    end = "'dlra methods NAME' tells more; 'dlra cite NAME' gives its publications. Orders are those of the defaults."
    return "\n".join([*lines, "", end])


def method_page(name: str) -> str:
    """What a method does, its options and defaults, properties, and references."""
    method = integrators.by_name(name)
    options = ", ".join(f"{f.name}={f.default!r}" for f in dataclasses.fields(method))
    text = re.sub(r"\n-{3,}(?=\n)", "", inspect.getdoc(type(method)) or "")
    return f"{method.name}, order {method.order}\n{type(method).__name__}({options})\n\n{_plain(text)}"


def _title(method: Any) -> str:
    """The first line of its docstring, up to a colon."""
    return _first_line(type(method)).partition(": ")[0].removeprefix("The ").strip()


def _run(problem: problems.Problem) -> list[tuple[str, Any]]:
    t0, t1 = problem.t_span
    return [*problem.defaults.items(), ("t", f"{t0:g} to {t1:g}")]


def _factory(name: str) -> Any:
    return getattr(problems, name.replace("-", "_"))


def _first_line(factory: Any) -> str:
    return _plain(" ".join((inspect.getdoc(factory) or "").partition("\n\n")[0].split())).rstrip(".")


def _plain(text: str) -> str:
    """Docstring markup as plain text."""
    return re.sub(r"(?::\w+(?::\w+)?:)?`+~?([^`]*)`+", r"\1", text)
