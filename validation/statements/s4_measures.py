"""Section II-C, equations (17) to (23): measures of sparsity, of the singular values, as measures of low rank.

**Statement.** For a vector x of N entries, here the singular values of a matrix, zeros included,

    ℓ_p(x) = (Σ |x_i|ᵖ)^(1/p)                                             (17), p = 1: (18)
    ℓ₁ˢᵒʳᵗ(x) = Σ λ_i |x_i|,  λ₁ ≥ ... ≥ λ_N ≥ 0                           (19)
    ℓ₁²ˡᵉᵛᵉˡ(x) = ρ Σ_{I₁} |x_i| + Σ_{I₂} |x_j|,  |x_i| ≥ |x_j|            (20)
    G(x) = 1 - 2 Σ (x_i/‖x‖₁) (N - i + 1/2)/N,  x₁ ≤ ... ≤ x_N             (21)
    H(x) = (√N - ‖x‖₁/‖x‖₂)/(√N - 1)                                      (22)
    E(X) = exp(-Σ σ̄_i log σ̄_i),  σ̄ = σ/‖σ‖₁                               (23)

G is 0 where all entries are equal and at most 1 - 1/N, where one entry is not zero; it is twice the area between the
Lorenz curve and the diagonal. H is 1 if and only if one entry is not zero, and 0 if and only if all are equal. E is
largest where all are equal and smallest for one value.

**Source.** X. Ou, Z. Chen, C. Zhu, Y. Liu, Low rank optimization for efficient deep learning: making a balance between
compact architecture and fast training (2023).

**Assumptions.** x is not zero in (21) to (23). As printed, three things are missing: in (19) |x_i| must descend like
λ_i ("the higher the magnitude of the element, the larger the penalty on it"), in (20) ρ ≥ 1 or the penalty falls, and
in (21) and (22) the entries are meant without their signs: (1, -1) has H = 0, and G = 3/2 by (21). Singular values have
no signs. "log 0 = 0" stands for 0 log 0 = 0.

**Constants.** Derived: 1 ≤ E ≤ rank, and E(Y) = E(S) for Y = U S Vᴴ with orthonormal U, V, of the singular values of S
(not of its diagonal). Appending zeros to r entries, 1 - G_N = (r/N)(1 - G_r). By Lagrange's identity N‖x‖₂² - ‖x‖₁² =
Σ_{i<j} (|x_i| - |x_j|)², so that H = 0 exactly where all |x_i| are equal. (19) with the right order is the largest of Σ
λ_i |x_π(i)| over all permutations π, and (20) with ρ ≥ 1 the largest over all I₁ of its size; these are norms.

The derivative by the matrix is U diag(∂f/∂σ) Vᴴ where the singular values are different and none is zero; of
a norm f, <G, A> = f(A), and 0 of G, H and E, which do not change under scaling (Euler).

**Use.** `dlra.compress` has all of them. As a penalty that is added to a loss, E and the norms are to be minimised, but
G and H maximised: descending G or H raises the effective rank.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from dlra import LowRank
from dlra.compress import (
    effective_rank,
    gini,
    hoyer,
    nuclear_norm,
    schatten_norm,
    sorted_l1,
    two_level_l1,
)
from validation.checks import Counterexample, Finding, Identity, Inequality, check
from validation.families import dense_start
from validation.flows import norm, relative
from validation.manufactured import normal

Measure = Callable[[Any], float]


def dense(rng: np.random.Generator, s: np.ndarray, m: int, n: int, dtype: str = "float64") -> np.ndarray:
    """An m x n matrix with these singular values."""
    return dense_start(rng, m, n, s.tolist(), dtype).to_dense()


def factored(rng: np.random.Generator, s: np.ndarray, m: int, n: int, dtype: str = "float64") -> LowRank:
    """The same as a LowRank: dense core, and factors that are not orthonormal."""
    Y = dense_start(rng, m, n, s.tolist(), dtype)
    A, B = (np.eye(len(s)) + 0.3 * normal(rng, (len(s), len(s)), dtype) for _ in range(2))
    return LowRank(Y.U @ A, np.linalg.inv(A) @ Y.S @ np.linalg.inv(B).conj().T, Y.V @ B)


def lorenz_area(x: np.ndarray) -> float:
    """Twice the area between the diagonal and the Lorenz curve, the polygon through (k/N, (x₁ + ... + x_k)/‖x‖₁)."""
    share = np.concatenate([[0.0], np.cumsum(np.sort(x)) / np.sum(x)])
    return float(2 * (0.5 - np.sum((share[1:] + share[:-1]) / 2) / len(x)))


@check("s4-17-20", "(17) to (20), of the singular values of a matrix", expect="holds")
def norms(quick: bool) -> Iterator[Finding]:
    """Matrices whose singular values are chosen (with two zeros), dense and on factors, real and complex: the measures
    against the sums as printed, with |x| and λ both descending. p from 0.3 to 3."""
    rng = np.random.default_rng(0)
    s = np.array([3.0, 2.0, 0.7, 0.2, 0.0, 0.0])
    weights = np.array([2.0, 1.5, 1.0, 0.5, 0.25, 0.0])
    cases = [(8, 6, "complex128"), (6, 6, "float64")] + (
        [] if quick else [(6, 30, "float64"), (6, 6, "complex128")]
    )
    for m, n, dtype in cases:
        for kind, A in (
            ("factors", factored(rng, s[:4], m, n, dtype)),
            ("dense", dense(rng, s, m, n, dtype)),
        ):
            where = f"{kind}, {m} x {n}, {dtype}"
            for p in (0.3, 0.5, 1.0, 2.0, 3.0):
                yield Identity(
                    f"(17), p = {p:g}, {where}", relative(schatten_norm(A, p), float(np.sum(s**p)) ** (1 / p))
                )
            yield Identity(f"(18), {where}", relative(nuclear_norm(A), float(np.sum(s))))
            yield Identity(f"(19), {where}", relative(sorted_l1(A, weights), float(weights @ s)))
            two = 2.5 * float(np.sum(s[:2])) + float(np.sum(s[2:]))
            yield Identity(f"(20), {where}", relative(two_level_l1(A, 2.5, count=2), two))


@check("s4-19-order", "(19) as printed penalises the larger elements more", expect="fails as printed")
def unsorted(quick: bool) -> Iterator[Finding]:
    """For x = (1, 3) with λ = (2, 1), in the order as printed: the smaller entry has the larger weight. What
    `sorted_l1` gives is not the printed sum, but the sorted one."""
    x, weights = np.array([1.0, 3.0]), np.array([2.0, 1.0])
    value = sorted_l1(np.diag(x), weights)
    yield Identity("sorted", relative(value, float(np.sort(weights)[::-1] @ np.sort(x)[::-1])))
    printed = float(weights @ x)
    yield Counterexample("weight of the entry 1 > weight of the entry 3", weights[0], weights[1])
    yield Counterexample("sorted > printed", value, printed)


@check(
    "s4-19-20-sorted",
    "(19), (20) are the largest sums over all orders and all I₁, for ρ ≥ 1",
    expect="corrected form holds",
)
def sorted_is_largest(quick: bool) -> Iterator[Finding]:
    """All permutations of five singular values, and all subsets of size k."""
    rng = np.random.default_rng(1)
    for case in range(2 if quick else 6):
        s, weights = rng.random(5), np.sort(rng.random(5))[::-1]
        A = dense(rng, s, 5, 5)
        largest = max(float(weights @ np.array(x)) for x in itertools.permutations(s))
        yield Identity(f"(19), case {case}", relative(sorted_l1(A, weights), largest))
        for k in (0, 1, 3, 5):
            rho = 1 + float(rng.random())
            best = max(sum(x) for x in itertools.combinations(s, k)) * (rho - 1) + float(np.sum(s))
            yield Identity(f"(20), k = {k}, case {case}", relative(two_level_l1(A, rho, count=k), best))


@check("s4-extremes", "(21) to (23) at their extremes, invariant under scaling", expect="sharp")
def extremes(quick: bool) -> Iterator[Finding]:
    """One singular value, all equal, and k equal among N; then E ≤ rank with random values, attained by equal ones;
    factors 1e-150 to 1e150."""
    rng = np.random.default_rng(2)
    for N in (2, 5) if quick else (2, 3, 5, 12, 40):
        for m, n in ((N, N), (N, N + 4)):
            for k in {1, 2, N}:
                s = np.concatenate([np.full(k, 2.5), np.zeros(N - k)])
                for kind, A in (
                    ("dense", dense(rng, s, m, n)),
                    ("factors", factored(rng, s[:k], m, n)),
                ):
                    where = f"{k} equal of {N}, {kind}, n = {n}"
                    # ER does not see zeros; G and H do
                    yield Identity(f"(21) = 1 - k/N, {where}", abs(gini(A) - (1 - k / N)))
                    wanted = (np.sqrt(N) - np.sqrt(k)) / (np.sqrt(N) - 1)
                    yield Identity(f"(22), {where}", abs(hoyer(A) - wanted), 1e-12)  # √N - √k cancels
                    yield Identity(f"(23) = k, {where}", relative(effective_rank(A), k))
    for case in range(3 if quick else 20):
        s = rng.random(6) ** 3
        A = dense(rng, s, 6, 6)
        yield Inequality(f"E ≤ rank, case {case}", effective_rank(A), 6.0)
        yield Inequality(f"1 ≤ E, case {case}", 1.0, effective_rank(A))
        for name, measure in (("G", gini), ("H", hoyer), ("E", effective_rank)):
            for c in (1e-150, -3.0, 1e150):
                yield Identity(f"{name} of {c:g} A, case {case}", relative(measure(c * A), measure(A)))
    yield Inequality(
        "E ≤ rank, all equal", effective_rank(dense(rng, np.full(4, 0.3), 4, 9)), 4.0, rounding=1e-13
    )


@check(
    "s4-21-lorenz", "(21) is twice the area between Lorenz curve and diagonal; 0.4 in Fig. 6", expect="holds"
)
def lorenz(quick: bool) -> Iterator[Finding]:
    """Fig. 6: x = (1, 2, 3, 4, 10); random singular values; zeros appended, 1 - G_N = (r/N)(1 - G_r)."""
    rng = np.random.default_rng(3)
    x = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    yield Identity("Fig. 6, area", abs(gini(dense(rng, x, 5, 5)) - lorenz_area(x)))
    yield Identity("Fig. 6, value", abs(gini(np.diag(x)) - 0.4))
    for N in (3, 8) if quick else (3, 8, 20, 50):
        s = rng.random(N) ** 2
        yield Identity(f"area, N = {N}", abs(gini(dense(rng, s, N, N + 2)) - lorenz_area(s)))
        few = factored(rng, s, 3 * N, 2 * N)
        yield Identity(f"zeros appended, N = {N}", abs(1 - gini(few) - (1 - gini(np.diag(s))) / 2))


@check(
    "s4-21-22-signs", "H = 0 if and only if all components are equal; G ≤ 1 - 1/N", expect="fails as printed"
)
def signs(quick: bool) -> Iterator[Finding]:
    """Entries ±1: H = 0 although they differ by 2; G by (21), for the entries in ascending order as printed, exceeds
    its bound. The measures of the matrix diag(x), whose singular values are |x_i|, are those of |x|."""
    for x in ([-3.0, 1.0], [-3.0, -2.0, 1.0]):
        a = np.sort(np.abs(x))
        N = len(a)
        right = 1 - 2 * float(np.sum(a / np.sum(a) * (N - np.arange(1, N + 1) + 0.5) / N))
        yield Identity(f"G(diag x) = G(|x|), x = {x}", abs(gini(np.diag(x)) - right))
        one, two = float(np.sum(a)), norm(a)
        wanted = (np.sqrt(N) - one / two) / (np.sqrt(N) - 1)
        yield Identity(f"H(diag x) = H(|x|), x = {x}", abs(hoyer(np.diag(x)) - wanted))
    for x in ([-1.0, 1.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]):
        v, N = np.array(x), len(x)
        yield Identity(f"H(diag x), x = {x}", abs(hoyer(np.diag(v))), 1e-14)
        yield Identity(f"G(diag x), x = {x}", abs(gini(np.diag(v))), 1e-14)
        yield Counterexample(f"H = 0, but max |x_i - x_j| > 0, x = {x}", float(np.ptp(v)), 0.0)
        printed = 1 - 2 * float(np.sum(v / np.sum(abs(v)) * (N - np.arange(1, N + 1) + 0.5) / N))
        yield Counterexample(f"G by (21) > 1 - 1/N, x = {x}", printed, 1 - 1 / N)


@check(
    "s4-22-iff",
    "H = 0 if and only if all |x_i| are equal, by Lagrange's identity",
    expect="corrected form holds",
)
def lagrange(quick: bool) -> Iterator[Finding]:
    """(√N - 1) H ‖x‖₂ (√N ‖x‖₂ + ‖x‖₁) = Σ_{i<j} (|x_i| - |x_j|)², for random x of both signs, some nearly equal."""
    rng = np.random.default_rng(4)
    for case, spread in enumerate((3.0, 1.0, 0.1) if quick else (3.0, 1.0, 0.3, 0.1, 0.03)):
        x = (1 + spread * rng.random(6)) * rng.choice([-1.0, 1.0], 6)
        a = np.abs(x)
        two, one, root = norm(a), float(np.sum(a)), np.sqrt(6)
        left = (root - 1) * hoyer(np.diag(x)) * two * (root * two + one)
        right = sum((p - q) ** 2 for p, q in itertools.combinations(a, 2))
        yield Identity(f"case {case}", abs(left - right) / (6 * two**2))


@check("s4-23-core", "E(U S Vᴴ) = E(S), of the singular values of S", expect="holds")
def core(quick: bool) -> Iterator[Finding]:
    """Orthonormal U, V and a dense core S, square and not, real and complex."""
    rng = np.random.default_rng(5)
    for dtype in ("float64", "complex128"):
        for m, n in ((30, 20), (24, 24)):
            Y = dense_start(rng, m, n, (1.0, 0.6, 0.3, 0.05), dtype)
            where = f"{m} x {n}, {dtype}"
            q = np.array([1.0, 0.6, 0.3, 0.05]) / 1.95
            exact = float(np.exp(-np.sum(q * np.log(q))))
            yield Identity(f"known singular values, {where}", relative(effective_rank(Y), exact))
            yield Identity(f"E(Y) = E(S), {where}", relative(effective_rank(Y), effective_rank(Y.S)))
            yield Identity(f"E(Y) dense, {where}", relative(effective_rank(Y), effective_rank(Y.to_dense())))


def transferred(s: np.ndarray, low: int, high: int, amount: float) -> np.ndarray:
    """Singular values after something was taken from one and given to another."""
    s = s.copy()
    s[low] -= amount
    s[high] += amount
    return s


@check(
    "s4-direction-printed", "Measures are added to the loss as penalties: their descent lowers the rank",
    expect="fails as printed",
)  # fmt: skip
def descending(quick: bool) -> Iterator[Finding]:
    """Twenty small steps of steepest descent of G and of H in the singular values (central differences, ‖σ‖₂ kept):
    the effective rank after them, beside the one before. The same descent of E lowers it."""
    rng = np.random.default_rng(6)

    def descended(measure: Measure, s: np.ndarray, steps: int = 20, h: float = 0.02) -> np.ndarray:
        for _ in range(steps):
            d = 1e-6
            slope = np.array(
                [
                    (measure(np.diag(s + d * e)) - measure(np.diag(s - d * e))) / (2 * d)
                    for e in np.eye(len(s))
                ]
            )
            s = np.abs(s - h * slope / np.linalg.norm(slope))
            s = s / np.linalg.norm(s)
        return s

    for case in range(1 if quick else 4):
        s = np.sort(rng.random(5))[::-1] + np.array([1.0, 0.4, 0.1, 0.0, 0.0])
        s = s / np.linalg.norm(s)
        before = effective_rank(np.diag(s))
        yield Inequality(
            f"E falls along its own descent, case {case}",
            effective_rank(np.diag(descended(effective_rank, s))),
            before,
        )
        for name, measure in (("G", gini), ("H", hoyer)):
            after = effective_rank(np.diag(descended(measure, s)))
            yield Counterexample(f"E after the descent of {name} > E before, case {case}", after, before)


@check(
    "s4-direction",
    "G and H rise, E falls, when a large singular value takes from a small one",
    expect="corrected form holds",
)
def transfers(quick: bool) -> Iterator[Finding]:
    """Random singular values; 5 to 90 % of a smaller one is given to a larger one, in rotated matrices. The entropy is
    Schur-concave, and G and H are Schur-convex at a constant sum."""
    rng = np.random.default_rng(7)
    for case in range(4 if quick else 40):
        s = rng.random(6) + 0.05
        low, high = np.argsort(s)[[int(rng.integers(0, 3)), int(rng.integers(3, 6))]]
        after = transferred(s, low, high, float(s[low]) * (0.05 + 0.85 * rng.random()))
        A, B = dense(rng, s, 6, 7), dense(rng, after, 6, 7)
        yield Inequality(f"G, case {case}", gini(A), gini(B))
        yield Inequality(f"H, case {case}", hoyer(A), hoyer(B))
        yield Inequality(f"E, case {case}", effective_rank(B), effective_rank(A))


@check("s4-gradient", "∂f/∂A = U diag(∂f/∂σ) Vᴴ, by which (17) to (23) are penalties", expect="holds")
def gradients(quick: bool) -> Iterator[Finding]:
    """Against central differences of fourth order (step 0.002) in random directions, for different singular values from
    4 to 0.2, real and complex; on factors in directions within their spaces, where it is the projection. Euler's
    <G, A> = f or 0."""
    rng = np.random.default_rng(8)
    s = np.array([4.0, 2.7, 1.6, 0.9, 0.5, 0.2])
    weights = np.array([2.0, 1.5, 1.0, 0.5, 0.25, 0.1])
    functions: dict[str, tuple[Callable[..., Any], int]] = {
        "(17), p = 0.5": (partial(schatten_norm, p=0.5), 1),
        "(17), p = 3": (partial(schatten_norm, p=3.0), 1),
        "(18)": (nuclear_norm, 1),
        "(19)": (partial(sorted_l1, weights=weights), 1),
        "(20)": (partial(two_level_l1, rho=2.5, count=2), 1),
        "(21)": (gini, 0),
        "(22)": (hoyer, 0),
        "(23)": (effective_rank, 0),
    }
    h = 0.002
    for m, n, dtype in [(8, 6, "complex128")] + ([] if quick else [(6, 6, "float64"), (6, 9, "complex128")]):
        for kind, A in (
            ("dense", dense(rng, s, m, n, dtype)),
            ("factors", factored(rng, s[:4], m, n, dtype)),
        ):
            for name, (f, degree) in functions.items():
                value, G = f(A, return_gradient=True)
                where = f"{name}, {kind}, {m} x {n}, {dtype}"
                X = normal(rng, (m, n), dtype)
                if isinstance(A, LowRank):
                    X = G.U @ (G.U.conj().T @ X @ G.V) @ G.V.conj().T
                A1, G1 = (Y.to_dense() if isinstance(Y, LowRank) else Y for Y in (A, G))
                X = X / norm(X)
                up, down, up2, down2 = (f(A1 + c * h * X) for c in (1, -1, 2, -2))
                difference = (8 * (up - down) - (up2 - down2)) / (12 * h)
                slope = float(np.vdot(G1, X).real)
                yield Identity(f"difference, {where}", abs(slope - difference) / norm(G1), 1e-6)
                euler = float(np.vdot(G1, A1).real)
                yield Identity(f"Euler, {where}", abs(euler - degree * value) / (norm(G1) * norm(A1)), 1e-12)
