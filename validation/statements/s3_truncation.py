"""Section 4 and appendix A: truncation of the singular values of a trained network, local, global and iterative.

**Statement.** LSVT truncates each layer by itself; GSVT the normalised singular values of all layers together; ISVT
removes 500 parameters in each round where that costs the least. "Storage reduces from mn to (m + n) r."

**Source.** Structure-preserving network compression via low-rank induced training through linear layers composition
(LoRITa).

**Assumptions.** None for LSVT; ReLU networks without biases for what GSVT says of scaled layers.

**Constants.** The truncation of W to rank r has the error √(σ_{r+1}² + σ_{r+2}² + ...), the least of all matrices of
rank r (Eckart and Young). A ReLU network does not change where its layers are multiplied by c_l > 0 with the product 1,
and nor do singular values divided by the largest of their layer. Factors of rank r are smaller than the matrix only for
r < mn/(m + n), so a weight counts min(mn, r (m + n)) parameters and ISVT takes a dense layer below mn/(m + n) at once.
(Derived.)

**Use.** Truncate with `dlra.nn.to_lowrank` at the ranks of `dlra.compress`; below mn/(m + n) parameters are saved.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dlra import nn
from dlra.compress import global_ranks, iterative_ranks, local_ranks, singular_values
from validation.checks import Counterexample, Finding, Identity, Inequality, check
from validation.flows import norm, relative

Matrix = np.ndarray


@check("s3-lsvt", "LSVT: the truncation of each layer is its best approximation", expect="holds")
def local_truncation(quick: bool) -> Iterator[Finding]:
    """Square and rectangular weights: ‖W - W_r‖_F is the root of the sum of the squares of what is dropped (Eckart and
    Young), and W_r keeps the leading part of the decomposition."""
    rng = np.random.default_rng(7)
    for widths in ((12, 12, 12), (9, 14, 5)):
        net = nn.mlp(widths, dtype="float64", rng=rng)
        values = singular_values(net)
        for share in (0.25, 0.5) if quick else (0.1, 0.25, 0.5, 0.75):
            ranks = local_ranks(values, share=share)
            cut = nn.to_lowrank(net, rank=ranks)
            for i, (W, Y, s, r) in enumerate(zip(net.weights, cut.weights, values, ranks, strict=True)):
                where = f"{widths}, layer {i}, share {share:g}"
                dropped = norm(s[r:])
                yield Identity(f"error, {where}", abs(norm(W - Y.to_dense()) - dropped) / s[0])
                U, t, Vh = np.linalg.svd(W)
                yield Identity(f"W_r, {where}", norm(Y.to_dense() - (U[:, :r] * t[:r]) @ Vh[:r]) / s[0])


@check(
    "s3-gsvt", "GSVT: ranks that do not depend on the scale of a layer, at least one in each", expect="holds"
)
def global_truncation(quick: bool) -> Iterator[Finding]:
    """ReLU networks whose layers are scaled by c₁, c₂, c₃ with product 1, c from 1e-3 to 1e3 (powers of two, so that
    rounding does not differ): the same ranks, all positive, and the same function after truncation."""
    rng = np.random.default_rng(8)
    for case in range(2 if quick else 8):
        layers = [
            nn.Linear(a, b, bias=False, dtype="float64", rng=rng) for a, b in ((10, 12), (12, 9), (9, 4))
        ]
        net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        j, k = (int(v) for v in rng.integers(2, 11, 2))
        scaled = net.with_weights(
            {i: W * 2.0**e for i, (W, e) in enumerate(zip(net.weights, (j, -j - k, k), strict=True))}
        )
        x = rng.standard_normal((6, 10))
        for share in (0.3, 0.6):
            ranks, others = (global_ranks(singular_values(f), share=share) for f in (net, scaled))
            where = f"case {case}, share {share:g}"
            yield Identity(
                f"ranks, {where}", float(max(abs(a - b) for a, b in zip(ranks, others, strict=True)))
            )
            yield Identity(f"layers without a rank, {where}", float(sum(r < 1 for r in (*ranks, *others))))
            a, b = (nn.to_lowrank(f, rank=r).predict(x) for f, r in ((net, ranks), (scaled, others)))
            yield Identity(f"function, {where}", relative(b, a))


def isvt_net(rng: np.random.Generator) -> tuple[nn.Sequential, Matrix, Matrix]:
    """A network of three dense layers and some data."""
    net = nn.mlp((24, 40, 30, 5), dtype="float64", rng=rng)
    return net, rng.standard_normal((20, 24)), rng.standard_normal((20, 5))


@check(
    "s3-isvt-printed",
    "ISVT: dropping 500 parameters' worth of singular values saves 500",
    expect="fails as printed",
)
def iterative_printed(quick: bool) -> Iterator[Finding]:
    """From a dense layer the smallest ⌈500/(m + n)⌉ singular values are dropped and the rest kept as factors: the
    network has more parameters than before, not 500 fewer."""
    rng = np.random.default_rng(9)
    net, _, _ = isvt_net(rng)
    for i, W in enumerate(net.weights[:2]):
        m, n = W.shape
        rank = min(m, n) - -(-500 // (m + n))
        ranks: list[int | None] = [None] * len(net.weights)
        ranks[i] = rank
        cut = nn.to_lowrank(net, rank=ranks)
        dropped = np.linalg.svd(W, compute_uv=False)[rank:]
        size = abs(norm(W - cut.weights[i].to_dense()) - norm(dropped))
        yield Identity(f"dropped, layer {i}", size)
        yield Counterexample(
            f"parameters > those before - 500, layer {i}, rank {rank}",
            cut.parameter_count(), net.parameter_count() - 500,
        )  # fmt: skip
        yield Counterexample(
            f"parameters > those before, layer {i}, rank {rank}", cut.parameter_count(), net.parameter_count()
        )


@check(
    "s3-isvt",
    "ISVT with min(mn, r (m + n)): every round saves what it promises",
    expect="corrected form holds",
)
def iterative(quick: bool) -> Iterator[Finding]:
    """500 and 100 parameters a round from the same network: what `dlra.nn` counts after each round, that no other layer
    would have cost less by the losses asked for in this round, that rounds one by one end where all together do, and
    that a weight is dense or below mn/(m + n)."""
    rng = np.random.default_rng(10)
    net, x, y = isvt_net(rng)
    shapes = [W.shape for W in net.weights]
    asked: dict[tuple[int, ...], float] = {}

    def cut(ranks: tuple[int, ...]) -> nn.Sequential:
        return nn.to_lowrank(net, rank=ranks)

    def loss(ranks: tuple[int, ...]) -> float:
        asked[ranks] = cut(ranks).loss_and_gradient(x, y, nn.MSELoss())[0]
        return asked[ranks]

    for wanted, budget in ((500, net.parameter_count() // 2), (100, net.parameter_count() // 3)):
        now = tuple(min(shape) for shape in shapes)
        for k in range(1000):
            before = cut(now).parameter_count()
            if before <= budget:
                break
            asked.clear()
            least = min(wanted, before - budget)
            now = iterative_ranks(shapes, loss=loss, parameters=before - least, per_round=wanted, ranks=now)
            where = f"{wanted} a round, round {k}"
            yield Inequality(f"{where}: saved", least, before - cut(now).parameter_count())
            yield Identity(f"{where}: least of {len(asked)} losses", asked[now] - min(asked.values()))
        last = iterative_ranks(shapes, loss=loss, parameters=budget, per_round=wanted)
        yield Identity(f"{wanted} a round: all together", norm(np.subtract(now, last)))
        yield Inequality(f"{wanted} a round: budget", cut(last).parameter_count(), budget)
        for i, (r, (m, n)) in enumerate(zip(last, shapes, strict=True)):
            size = 0.0 if r == min(m, n) else float(r * (m + n))
            yield Inequality(f"{wanted} a round: dense, or r (m + n) < mn, layer {i}", size, m * n - 1.0)
