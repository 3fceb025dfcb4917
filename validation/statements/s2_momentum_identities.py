"""Section 5.3, equations (5.22) to (5.24): stochastic unified momentum, in fixed and in changing bases.

**Statement.** With 0 ≤ μ < 1, 0 ≤ λ ≤ 1/(1 - μ) and learning rates h_t, the iteration

    X_t = μ X_{t-1} + h_t f(Y_t),      Y_{t+1} = Y_t + λ h_t f(Y_t) + (1 - λ + λμ) X_t              (5.22)

is the heavy ball for λ = 0 and Nesterov's method for λ = 1. As the solver of the core in fixed bases (5.23), it is
the same iteration with P_U f P_V in the place of f (5.24).

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024).

**Assumptions.** None. X_{-1} = 0; the paper sets X_0 = 0 beside X_t for t = 0, which clashes: its t starts at 1.

**Constants.** None. For changing bases the paper says that (5.23) is not applicable, because dimensions change. It
is, where the memory moves with the bases (derived): X ← (U*ᴴU) X (VᴴV*) into the augmented bases U*, V*, and X ←
U₁ᴴU* X V*ᴴV₁ after truncation. Then, in terms of matrices,

    X*_t = μ X_{t-1} + h_t P* f P*,   Y*_{t+1} = Y_t + λ h_t P* f P* + (1 - λ + λμ) X*_t,   X_t = P_U₁ X*_t P_V₁

with P* f P* = P_U* f(Y_t) P_V* for the augmented integrator and P(Y_t) f(Y_t) for the parallel one; none of it
depends on the coordinates: (U, S, V) and (UQ, QᴴSR, VR) give the same.

**Use.** Momentum works while ranks adapt. Keeping the leading block of the moments when the rank changes, without
rotating it, is another method, whose momentum points elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dlra import AugmentedBUG, Galerkin, LowRank, ParallelBUG, nn
from dlra.nn._training import State
from dlra.nn.optimizers import Momentum
from dlra.nn.schedules import RobbinsMonro
from validation.checks import Finding, Identity, check
from validation.descent import Trained, moment
from validation.families import complex_field, dense_start
from validation.flows import compressed, relative, tangent
from validation.manufactured import normal, random_orthonormal

Matrix = np.ndarray
Map = Callable[[Matrix], Matrix]
SCHEDULE = RobbinsMonro(0.1, 0.75, 2.0)


def _within(Y: LowRank, Z: Matrix) -> Matrix:
    """P_U Z P_V in the bases of Y."""
    U, _, V = Y.factors
    return compressed(U, V, Z)


def _heavy_ball(f: Map, Y: Matrix, mu: float, h: list[float]) -> Matrix:
    """Y_{t+1} = Y_t + h_t f(Y_t) + μ (Y_t - Y_{t-1})."""
    before = Y
    for rate in h:
        before, Y = Y, Y + rate * f(Y) + mu * (Y - before)
    return Y


def _nesterov(f: Map, Y: Matrix, mu: float, h: list[float]) -> Matrix:
    """Z_{t+1} = Y_t + h_t f(Y_t), Y_{t+1} = Z_{t+1} + μ (Z_{t+1} - Z_t)."""
    before = Y
    for rate in h:
        Z = Y + rate * f(Y)
        before, Y = Z, Z + mu * (Z - before)
    return Y


def _unified(f: Map, Y: Matrix, mu: float, lam: float, h: list[float]) -> Matrix:
    """(5.24)."""
    X = np.zeros_like(Y)
    for rate in h:
        F = f(Y)
        X = mu * X + rate * F
        Y = Y + lam * rate * F + (1 - lam + lam * mu) * X
    return Y


@check("s2-5-24", "(5.22) to (5.24): heavy ball, Nesterov and between, in fixed bases", expect="holds")
def fixed_bases(quick: bool) -> Iterator[Finding]:
    """Learning rates that fall. Ten steps of a nonlinear complex field, cores trained with Momentum in the Galerkin
    integrator, against the classical forms of both methods and (5.24) as matrices. Then ``nn.train`` on a layer with
    mean squared error, all rows in each batch."""
    h = [SCHEDULE.lr / (1 + t / SCHEDULE.t0) ** SCHEDULE.power for t in range(10)]
    for shape in ((8, 8), (10, 7)):
        rng = np.random.default_rng(7)
        Y0 = dense_start(rng, *shape, (1.0, 0.5, 0.2), "complex128")
        field = complex_field(*shape)

        def f(Z: Matrix, field: Map = field, Y0: LowRank = Y0) -> Matrix:
            return _within(Y0, field(Z))

        for mu, lam in ((0.9, 0.0), (0.9, 1.0), (0.5, 0.3), (0.9, 10.0)):
            trained = Trained(Galerkin(), Momentum(SCHEDULE, mu=mu, lam=lam))
            Y, memory = Y0, {}
            for t in range(10):
                Y, memory = trained.step(field, t, Y, memory)
            Z0, Z = Y0.to_dense(), Y.to_dense()
            label = f"{shape[0]} x {shape[1]}, μ = {mu:g}"
            if lam == 0:
                yield Identity(f"heavy ball, {label}", relative(Z, _heavy_ball(f, Z0, mu, h)))
            elif lam == 1:
                yield Identity(f"Nesterov, {label}", relative(Z, _nesterov(f, Z0, mu, h)))
            yield Identity(f"(5.24), λ = {lam:g}, {label}", relative(Z, _unified(f, Z0, mu, lam, h)))
    yield from _by_training(h)


def _by_training(h: list[float]) -> Iterator[Finding]:
    rng = np.random.default_rng(8)
    x, z, loss = rng.standard_normal((20, 7)), rng.standard_normal((20, 9)), nn.MSELoss()
    start = nn.Sequential(nn.LowRankLinear(7, 9, 3, bias=False, dtype="float64", rng=1))
    start = start.with_weights({0: dense_start(rng, 9, 7, (1.0, 0.5, 0.2))})
    W0 = start.weights[0]

    def f(Z: Matrix) -> Matrix:
        return -_within(W0, (Z @ x.T - z.T) @ x * (2 / z.size))

    for lam, reference in ((0.0, _heavy_ball), (1.0, _nesterov)):
        net = start.copy()
        optimizer = Momentum(SCHEDULE, mu=0.9, lam=lam)
        nn.train(
            net, x, z, loss=loss, optimizer=optimizer, method=Galerkin(), epochs=10, batch_size=20, rng=0
        )
        yield Identity(
            f"nn.train, λ = {lam:g}", relative(net.weights[0].to_dense(), reference(f, W0.to_dense(), 0.9, h))
        )


def _walk(
    method: Any, Y: LowRank, field: Map, steps: int, lam: float
) -> Iterator[tuple[LowRank, State, LowRank, State, LowRank, State]]:
    """Per step: before, before truncation, after; each with its memory."""
    optimizer = Momentum(SCHEDULE, mu=0.9, lam=lam)
    cut = Trained(method, optimizer)
    memory: State = {}
    for t in range(steps):
        most = min(2 * Y.rank, *Y.shape)
        whole = Trained(dataclasses.replace(method, atol=0.0, max_rank=most), optimizer)
        Z, wide = whole.step(field, t, Y, memory)
        Y1, after = cut.step(field, t, Y, memory)
        yield Y, memory, Z, wide, Y1, after
        Y, memory = Y1, after


@check("s2-5-24-bases", "Momentum in changing bases: the same iteration of matrices", expect="holds")
def changing_bases(quick: bool) -> Iterator[Finding]:
    """Six steps with truncation to a rank of 5 at most, in the augmented and in the parallel integrator, real and
    complex, square and not; falling learning rates. Bases before truncation are read off the same step without it."""
    steps, mu = 6, 0.9
    cases = (((12, 12), "float64", 1.0), ((14, 11), "complex128", 0.0), ((12, 12), "complex128", 3.0))
    for shape, dtype, lam in cases[:2] if quick else cases:
        for method in (AugmentedBUG(atol=0.02, max_rank=5), ParallelBUG(atol=0.02, c=np.inf, max_rank=5)):
            rng = np.random.default_rng(9)
            Y0 = dense_start(rng, *shape, (1.0, 0.5, 0.2), dtype)
            full, real = complex_field(*shape), dtype == "float64"

            def field(Z: Matrix, full: Map = full, real: bool = real) -> Matrix:
                return np.real(full(Z)) if real else full(Z)

            for t, (Y, memory, Z, wide, Y1, after) in enumerate(_walk(method, Y0, field, steps, lam)):
                h, F = SCHEDULE(t), field(Y.to_dense())
                slope = _within(Z, F) if method.name == "augmented-bug" else tangent(Y, F)
                X = mu * moment(Y, memory) + h * slope
                label = f"{method.name}, {shape[0]} x {shape[1]}, {dtype}, λ = {lam:g}, step {t}"
                yield Identity(f"X*, {label}", relative(moment(Z, wide), X))
                end = Y.to_dense() + lam * h * slope + (1 - lam + lam * mu) * X
                yield Identity(f"Y*, {label}", relative(Z.to_dense(), end))
                yield Identity(f"X after truncation, {label}", relative(moment(Y1, after), _within(Y1, X)))
                yield Identity(f"Y after truncation, {label}", relative(Y1.to_dense(), _within(Y1, end)))


@check("s2-5-24-gauge", "Momentum does not depend on the coordinates of the factors", expect="holds")
def gauge(quick: bool) -> Iterator[Finding]:
    """(U, S, V) and (UQ, QᴴSR, VR) with random unitary Q, R in each step, the memory taken along: the same
    matrices."""
    for method in (AugmentedBUG(atol=0.02), ParallelBUG(atol=0.02, c=np.inf, max_rank=5), Galerkin()):
        for shape, dtype in (((8, 8), "float64"), ((10, 7), "complex128")):
            rng = np.random.default_rng(10)
            Y = dense_start(rng, *shape, (1.0, 0.5, 0.2), dtype)
            noise = [0.5 * normal(rng, shape, dtype) for _ in range(6)]
            trained = Trained(method, Momentum(SCHEDULE, mu=0.9, lam=1.0))
            memory: State = {}
            Z, other = Y, memory
            for t, N in enumerate(noise):
                Q = random_orthonormal(rng, Z.rank, Z.rank, dtype)
                R = random_orthonormal(rng, Z.rank, Z.rank, dtype)
                U, S, V = Z.factors
                Z = LowRank(U @ Q, Q.conj().T @ S @ R, V @ R).orthonormalized()
                if other:  # into the bases that Z has now
                    P, T = U.conj().T @ Z.factors[0], V.conj().T @ Z.factors[2]
                    other = {"S": [m.rotate(P, T) for m in other["S"]]}

                def field(A: Matrix, N: Matrix = N) -> Matrix:
                    return N - A

                Z, other = trained.step(field, t, Z, other)
                Y, memory = trained.step(field, t, Y, memory)
                yield Identity(
                    f"{method.name}, {shape[0]} x {shape[1]}, {dtype}, step {t}",
                    max(relative(Z.to_dense(), Y.to_dense()), relative(moment(Z, other), moment(Y, memory))),
                )
