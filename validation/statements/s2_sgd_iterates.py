"""Section 5.2, theorem 5.4: the mean of the projected gradients over k steps.

**Statement.** With a loss that is not negative, learning rate h and tolerance ϑ, the iterates of the rank-adaptive
integrator with Euler substeps satisfy

    (1/k) Σ_{t≤k} E |P(Y_{t-1}) F(Y_{t-1})|² ≤ L(Y₀)/(kh) + hLB²/2 + Bε + Bϑ/h.

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024).

**Assumptions.** Those of theorem 5.3 at all iterates; minibatches drawn independently, with replacement: (5.15) needs
E⟨F(Y_t), P f(Y_t)⟩ = E|P F(Y_t)|², which is false where an epoch goes through a permutation of the data.

**Constants.** As printed. The first term dominates unless kh is large, and hides every mistake then; before L(Y_k) ≥
0 is used, and with the normal block of theorem 5.3 as it is, the same proof gives (derived)

    (1/k) Σ_{t≤k} E |P(Y_{t-1}) F(Y_{t-1})|² ≤ (L(Y₀) - E L(Y_k))/(kh) + hLB²/2 + ε² + Bϑ/h.

With f_i = a_i - S, S in fixed bases, and epochs over the permutations of two samples a ± d, the two sides of the
identity differ in the second step of an epoch by exactly h|d|² (derived): E⟨F, f⟩ = E|F|² + h|d|².

**Use.** Convergence in the mean up to hLB²/2 + Bε + Bϑ/h: ϑ must fall faster than h; ϑ = ch² makes the last two terms
of the order of the first. Epochs that go through a permutation are outside the theory (``replacement=True`` of
:func:`dlra.nn.train` is inside); to first order in h they help here, they do not harm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra import AugmentedBUG, Galerkin, LowRank, nn
from validation.checks import Finding, Identity, Inequality, check
from validation.descent import advanced
from validation.families import Family, dense_start, quadratic_sum, root_sylvester
from validation.flows import compressed, norm, normal_part, tangent, tree


@dataclass
class Paths:
    """Expectations over all paths of a random iteration."""

    projected: float = 0.0
    """(1/k) Σ E|P(Y_t) F(Y_t)|²."""
    last: float = 0.0
    """E L(Y_k)."""
    B: float = 0.0
    eps: float = 0.0


def _paths(family: Family, Y0: LowRank, h: float, k: int, method: Any) -> Paths:
    """All paths of k steps; B and ε are those of the visited points."""
    out = Paths()
    for t, p, Y in tree(
        Y0, k, len(family.samples), lambda Y, t, i: advanced(family.samples[i], h, Y, method)
    ):
        Z = Y.to_dense()
        if t == k:
            out.last += p * family.loss(Z)
            continue
        F = family.F(Z)
        out.projected += p * norm(tangent(Y, F)) ** 2 / k
        for G in (F, *(f(Z) for f in family.samples)):
            out.B = max(out.B, norm(G))
            out.eps = max(out.eps, norm(normal_part(Y, G)))
    return out


def _cases(quick: bool) -> Iterator[tuple[str, Family, LowRank, float, int, float]]:
    for seed, h, k in ((0, 0.004, 3),) if quick else ((0, 0.004, 3), (1, 0.004, 5), (2, 0.25, 5)):
        family = root_sylvester(10, 10, eps=0.02, g=0.2, seed=seed)
        Y0 = dense_start(np.random.default_rng(seed), 10, 10, (2.0, 1.0))
        yield f"4^{k} paths, h = {h:g}", family, Y0, h, k, 0.1 * h**2


def _error(paths: Paths, family: Family, h: float, theta: float, normal: float) -> float:
    return h * family.L * paths.B**2 / 2 + normal + family.B * theta / h


@check(
    "s2-5-4",
    "Theorem 5.4: mean of E|PF|² ≤ L(Y₀)/(kh) + hLB²/2 + Bε + Bϑ/h",
    expect="holds",
    adjusted="was: vacuous here, with enumerated paths alone, and no variant could be seen; a long run was added",
)
def theorem_5_4(quick: bool) -> Iterator[Finding]:
    """B and ε are those of the visited points, in the term of ϑ B is that of the family. A long run with one sample,
    kh = 20: long enough for L(Y₀)/(kh) to be small. Then all paths of four samples, a few steps, where the first term
    alone exceeds B², which is known without the statement."""
    h, k = 0.05, 400
    for seed, shape in ((3, (8, 8)),) if quick else ((3, (8, 8)), (4, (9, 7))):
        family = root_sylvester(*shape, eps=0.0, g=0.0, seed=seed)
        Y0 = dense_start(np.random.default_rng(seed), *shape, (2.0, 1.0))
        theta = 0.1 * h**2
        paths = _paths(family, Y0, h, k, AugmentedBUG(substep="euler", atol=theta))
        right = family.loss(Y0.to_dense()) / (k * h) + _error(paths, family, h, theta, paths.B * paths.eps)
        yield Inequality(f"{shape[0]} x {shape[1]}, kh = 20", paths.projected, right, trivial=paths.B**2)
    for label, family, Y0, h, k, theta in _cases(quick):
        paths = _paths(family, Y0, h, k, AugmentedBUG(substep="euler", atol=theta))
        right = family.loss(Y0.to_dense()) / (k * h) + _error(paths, family, h, theta, paths.B * paths.eps)
        yield Inequality(label, paths.projected, right, trivial=paths.B**2)


@check("s2-5-4-telescoped", "Theorem 5.4 with L(Y₀) - E L(Y_k) for L(Y₀) and ε² for Bε", expect="sharp")
def telescoped(quick: bool) -> Iterator[Finding]:
    """The same paths."""
    for label, family, Y0, h, k, theta in _cases(quick):
        paths = _paths(family, Y0, h, k, AugmentedBUG(substep="euler", atol=theta))
        fallen = family.loss(Y0.to_dense()) - paths.last
        right = fallen / (k * h) + _error(paths, family, h, theta, paths.eps**2)
        yield Inequality(label, paths.projected, right, trivial=paths.B**2)


def _fixed(shape: tuple[int, int]) -> tuple[Family, LowRank, np.ndarray]:
    """Two targets a ± d in the span of the bases of Y₀, and d."""
    rng = np.random.default_rng(4)
    Y0 = dense_start(rng, *shape, (1.0, 0.5, 0.2))
    U, _, V = Y0.factors
    a, d = (U @ rng.standard_normal((3, 3)) @ V.T for _ in range(2))
    return quadratic_sum([a + d, a - d]), Y0, d


def _products(family: Family, Y: LowRank, f: np.ndarray) -> tuple[float, float]:
    """⟨F, P f P⟩ and |P F P|² in the bases of Y."""
    U, _, V = Y.factors
    F = U.T @ family.F(Y.to_dense()) @ V
    return float(np.vdot(F, U.T @ f @ V)), norm(F) ** 2


@check("s2-5-4-fresh", "What (5.15) needs: E⟨F, PfP⟩ = E|PFP|², minibatches drawn afresh", expect="holds")
def fresh(quick: bool) -> Iterator[Finding]:
    """Fixed bases, two samples with replacement, all paths; the sample of each step is paired with the state before
    it. Then ``nn.train`` with ``replacement=True`` on two rows, one in a batch, two epochs, for each of the sixteen
    sequences that its generator of random numbers can give: f is what a step adds to the weight, over h."""
    for shape in ((8, 8), (10, 7)):
        family, Y0, _ = _fixed(shape)

        def advance(state: Any, t: int, i: int, family: Family = family) -> Any:
            Y = state[0]
            f = family.samples[i](Y.to_dense())
            return advanced(family.samples[i], 0.2, Y, Galerkin(substep="euler")), _products(family, Y, f)

        sums = np.zeros((5, 2))
        for t, p, (_, products) in tree((Y0, (0.0, 0.0)), 4, 2, advance):
            sums[t] += p * np.array(products)
        for t in range(1, 5):
            yield Identity(f"{shape[0]} x {shape[1]}, step {t}", abs(sums[t, 0] - sums[t, 1]) / sums[t, 1])
    for shape in ((8, 8), (9, 7)):
        yield from _trained(shape)


class _Prescribed(np.random.Generator):
    """A generator whose whole numbers are given beforehand; permutations follow from the first of them."""

    def __init__(self, numbers: tuple[int, ...]):
        super().__init__(np.random.PCG64(0))
        self.numbers = list(numbers)

    def integers(self, low: Any, high: Any = None, size: Any = None, *_: Any, **__: Any) -> Any:
        """The next ones."""
        return np.array([self.numbers.pop(0) for _ in range(size)])

    def permutation(self, x: Any, axis: int = 0) -> Any:
        """One of all, as many numbers used as are permuted."""
        several = list(itertools.permutations(range(x)))
        return np.array(several[self.integers(0, size=x)[0] % len(several)])


def _trained(shape: tuple[int, int]) -> Iterator[Finding]:
    m, n = shape
    rows, epochs, h = 2, 2, 0.2
    rng = np.random.default_rng(5)
    x, z, loss = rng.standard_normal((rows, n)), rng.standard_normal((rows, m)), nn.MSELoss()
    start = nn.Sequential(nn.LowRankLinear(n, m, 3, bias=False, dtype="float64", rng=1))
    start = start.with_weights({0: dense_start(rng, m, n, (1.0, 0.5, 0.2))})
    U, _, V = start.weights[0].factors
    steps = rows * epochs
    sums = np.zeros((steps, 2))
    for numbers in itertools.product(range(rows), repeat=steps):
        net = start.copy()
        visited: list[np.ndarray] = []

        def rate(t: int, net: nn.Sequential = net, visited: list[np.ndarray] = visited) -> float:
            visited.append(net.weights[0].to_dense())
            return h

        nn.train(
            net, x, z, loss=loss, optimizer=nn.SGD(rate), method=Galerkin(), epochs=epochs, batch_size=1,
            replacement=True, rng=_Prescribed(numbers),
        )  # fmt: skip
        # the trainer asks for a rate once before the first step
        ends = [*visited[-steps + 1 :], net.weights[0].to_dense()]
        for t, (Y, Y1) in enumerate(zip(visited[-steps:], ends, strict=True)):
            F = compressed(U, V, (z.T - Y @ x.T) @ x * (2 / z.size))
            sums[t] += np.array([np.vdot(F, Y1 - Y) / h, norm(F) ** 2]) / rows**steps
    for t, (product, square) in enumerate(sums.tolist()):
        yield Identity(f"nn.train, {m} x {n}, step {t}", abs(product - square) / square)


@check(
    "s2-5-4-shuffled",
    "Epochs through permutations lack it: E⟨F, PfP⟩ - E|PFP|² = h|d|² in the second step",
    expect="holds",
    adjusted="was: fails as printed; no paper prints that (5.15) holds for permutations",
)
def shuffled(quick: bool) -> Iterator[Finding]:
    """Fixed bases, both orders of two samples a ± d."""
    for shape in ((8, 8), (10, 7)):
        family, Y0, d = _fixed(shape)
        for h in (0.05, 0.2):
            sums = np.zeros(2)
            for i, j in itertools.permutations(range(2)):
                Y = advanced(family.samples[i], h, Y0, Galerkin(substep="euler"))
                sums += np.array(_products(family, Y, family.samples[j](Y.to_dense()))) / 2
            label = f"{shape[0]} x {shape[1]}, h = {h:g}"
            yield Identity(label, abs(sums[0] - sums[1] - h * norm(d) ** 2) / sums[0])
