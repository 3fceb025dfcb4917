"""What to cite: BibTeX entries of the methods."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["citation"]


class Entry(NamedTuple):
    """A publication; ``where`` holds the further fields of its BibTeX entry."""

    key: str
    authors: str
    title: str
    year: int
    where: dict[str, str]

    def bibtex(self) -> str:
        """The entry as text."""
        kind = "article" if "journal" in self.where else "misc"
        fields = {"author": self.authors, "title": f"{{{self.title}}}", "year": str(self.year), **self.where}
        width = max(map(len, fields))
        lines = [f"  {name:<{width}} = {{{value}}}," for name, value in fields.items()]
        return "\n".join([f"@{kind}{{{self.key},", *lines, "}"])


def _journal(name: str, volume: int | str, pages: str, doi: str = "", arxiv: str = "") -> dict[str, str]:
    where = {"journal": name, "volume": str(volume), "pages": pages}
    if doi:
        where["doi"] = doi
    return where | (_arxiv(arxiv) if arxiv else {})


def _arxiv(number: str) -> dict[str, str]:
    return {"eprint": number, "archiveprefix": "arXiv"}


_CKL = "Ceruti, Gianluca and Kusch, Jonas and Lubich, Christian"
_KIERI = Entry(
    "KieriVandereycken2019",
    "Kieri, Emil and Vandereycken, Bart",
    "Projection methods for dynamical low-rank approximation of high-dimensional problems",
    2019,
    _journal("Comput. Methods Appl. Math.", 19, "73--92", "10.1515/cmam-2018-0029"),
)
_RANDOMISED = Entry(
    "Carrel2024",
    "Carrel, Benjamin",
    "Randomized methods for dynamical low-rank approximation",
    2024,
    _arxiv("2410.17091"),
)

ENTRIES: dict[str, tuple[Entry, ...]] = {
    "bug": (
        Entry(
            "CerutiLubich2022",
            "Ceruti, Gianluca and Lubich, Christian",
            "An unconventional robust integrator for dynamical low-rank approximation",
            2022,
            _journal("BIT Numer. Math.", 62, "23--44", "10.1007/s10543-021-00873-0", "2010.02022"),
        ),
    ),
    "augmented-bug": (
        Entry(
            "CerutiKuschLubich2022",
            _CKL,
            "A rank-adaptive robust integrator for dynamical low-rank approximation",
            2022,
            _journal("BIT Numer. Math.", 62, "1149--1174", "10.1007/s10543-021-00907-7", "2104.05247"),
        ),
    ),
    "parallel-bug": (
        Entry(
            "CerutiKuschLubich2024",
            _CKL,
            "A parallel rank-adaptive integrator for dynamical low-rank approximation",
            2024,
            _journal("SIAM J. Sci. Comput.", 46, "B205--B228", "10.1137/23M1565103", "2304.05660"),
        ),
    ),
    "midpoint-bug": (
        Entry(
            "CerutiEinkemmerKuschLubich2024",
            "Ceruti, Gianluca and Einkemmer, Lukas and Kusch, Jonas and Lubich, Christian",
            "A robust second-order low-rank BUG integrator based on the midpoint rule",
            2024,
            _journal("BIT Numer. Math.", 64, "30", "10.1007/s10543-024-01032-x", "2402.08607"),
        ),
    ),
    "second-order-parallel-bug": (
        Entry(
            "Kusch2025",
            "Kusch, Jonas",
            "Second-order robust parallel integrators for dynamical low-rank approximation",
            2025,
            {"journal": "BIT Numer. Math.", "volume": "65", **_arxiv("2403.02834")},
        ),
    ),
    "runge-kutta-bug": (
        Entry(
            "NobileRiffaud2025",
            "Nobile, Fabio and Riffaud, Sébastien",
            "Robust high-order low-rank BUG integrators based on explicit Runge-Kutta methods",
            2025,
            _arxiv("2502.07040"),
        ),
    ),
    "projector-splitting": (
        Entry(
            "LubichOseledets2014",
            "Lubich, Christian and Oseledets, Ivan V.",
            "A projector-splitting integrator for dynamical low-rank approximation",
            2014,
            _journal("BIT Numer. Math.", 54, "171--188", "10.1007/s10543-013-0454-0", "1301.1058"),
        ),
    ),
    "projected-runge-kutta": (_KIERI,),
    "projected-exponential": (
        Entry(
            "CarrelVandereycken2023",
            "Carrel, Benjamin and Vandereycken, Bart",
            "Projected exponential methods for stiff dynamical low-rank approximation problems",
            2023,
            _arxiv("2312.00172"),
        ),
    ),
    "step-truncation": (
        Entry(
            "RodgersDektorVenturi2022",
            "Rodgers, Abram and Dektor, Alec and Venturi, Daniele",
            "Adaptive integration of nonlinear evolution equations on tensor manifolds",
            2022,
            _journal("J. Sci. Comput.", 92, "39", "10.1007/s10915-022-01868-x", "2008.00155"),
        ),
        _KIERI,
    ),
    "randomized-svd": (_RANDOMISED,),
    "generalized-nystrom": (_RANDOMISED,),
    "interpolatory-cur": (
        Entry(
            "DonelloEtAl2023",
            "Donello, Michael and Palkar, Grishma and Naderi, Mohammad Hossein and Del Rey Fern{\\'a}ndez, David C. "
            "and Babaee, Hessam",
            "Oblique projection for scalable rank-adaptive reduced-order modelling of nonlinear stochastic partial "
            "differential equations with time-dependent bases",
            2023,
            _journal("Proc. R. Soc. A", 479, "20230320", "10.1098/rspa.2023.0320"),
        ),
    ),
    "interpolatory-runge-kutta": (
        Entry(
            "CarrelKressnerLamVandereycken2025",
            "Carrel, Benjamin and Kressner, Daniel and Lam, Hei Yin and Vandereycken, Bart",
            "Interpolatory dynamical low-rank approximation: theoretical foundations and algorithms",
            2025,
            _arxiv("2510.19518"),
        ),
    ),
    "galerkin": (
        Entry(
            "KochLubich2007",
            "Koch, Othmar and Lubich, Christian",
            "Dynamical low-rank approximation",
            2007,
            _journal("SIAM J. Matrix Anal. Appl.", 29, "434--454", "10.1137/050639703"),
        ),
    ),
}


def citation(method: Any = "augmented-bug") -> str:
    """Return the BibTeX entries of the publications that a method comes from.

    Parameters
    ----------
    method : str or Integrator
        As in :func:`dlra.solve`; an integrator class will do too.

    Returns
    -------
    str

    Raises
    ------
    ValueError, TypeError
        An unknown method, or one of your own.

    Examples
    --------
    >>> import dlra
    >>> print(dlra.citation("bug").splitlines()[0])
    @article{CerutiLubich2022,
    """
    from dlra.integrators import Integrator, by_name

    if not (isinstance(method, type) and issubclass(method, Integrator)):
        method = type(by_name(method))
    if method.name not in ENTRIES:
        raise ValueError(
            f"no citation is known for {method.__name__}, which is not one of the methods of dlra"
        )
    return "\n\n".join(entry.bibtex() for entry in ENTRIES[method.name])
