"""Train a network of PyTorch on low-rank factors, with an integrator of dlra.

A step of an integrator asks for values of a vector field. Here the field is minus the gradient of the loss on one
batch, and PyTorch supplies it: for the weight W = U S Vᵀ of a fully connected layer it is -δᵀx, with the inputs x of
the layer and the derivatives δ of the loss by its outputs. Neither a weight nor its gradient is ever formed.
"""

from types import SimpleNamespace

import torch
from torch import nn

from dlra import AugmentedBUG, LowRank
from dlra.field import Value
from dlra.integrators import drive


class LowRankLinear(nn.Module):
    """y = x Wᵀ + b. The integrator moves W; PyTorch differentiates by x and b only."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = weight.orthonormalized()  # a step starts from orthonormal factors
        self.bias = nn.Parameter(bias)

    def forward(self, x):
        U, S, V = self.weight.factors
        y = x @ V @ S.T @ U.T + self.bias
        if y.requires_grad:
            y.register_hook(lambda delta: self.keep_flow(delta, x.detach()))  # on the way back
        return y

    def keep_flow(self, delta, x):
        self.flow = LowRank(-delta.T, None, x.T)


def lowrank_layers(net):
    return [layer for layer in net.modules() if isinstance(layer, LowRankLinear)]


def members(net):
    """All unknowns: the low-rank weights, then what PyTorch knows as parameters (biases, dense weights)."""
    return (*(layer.weight for layer in lowrank_layers(net)), *(p.detach() for p in net.parameters()))


def set_members(net, Ys):
    layers, parameters = lowrank_layers(net), list(net.parameters())
    for layer, W in zip(layers, Ys[: len(layers)], strict=True):
        layer.weight = W
    for p, value in zip(parameters, Ys[len(layers) :], strict=True):
        p.data = value


def train(net, batches, lr, method, loss=nn.functional.cross_entropy):
    """Take one step of stochastic gradient descent a batch."""
    field = SimpleNamespace(linear=(), constant_rest=False)  # nothing stiff is declared
    for x, y in batches:

        def answer(ask, x=x, y=y):  # all questions of a step are answered on the same batch
            set_members(net, ask.Ys)
            net.zero_grad()
            loss(net(x), y).backward()
            flows = [Value(layer.flow, x.dtype) for layer in lowrank_layers(net)]
            return (*flows, *(-p.grad for p in net.parameters()))

        set_members(net, drive(method.step(0.0, lr, members(net), field), answer).Ys)


if __name__ == "__main__":
    from dlra.nn.datasets import digits

    x, y, x_test, y_test = (torch.from_numpy(a) for a in digits())
    torch.manual_seed(0)
    layers = []
    for n in (64, 100):
        W = LowRank.from_dense(torch.randn(100, n) * (2 / n) ** 0.5, rank=40)
        layers += [LowRankLinear(W, torch.zeros(100)), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(100, 10))
    for _ in range(20):
        batches = [(x[rows], y[rows]) for rows in torch.randperm(len(x)).split(64)]
        train(net, batches, lr=0.1, method=AugmentedBUG(rtol=0.1, substep="euler"))  # one gradient a step
    right = (net(x_test).argmax(dim=1) == y_test).double().mean()
    print(f"ranks {[layer.weight.rank for layer in lowrank_layers(net)]}, test accuracy {right:.3f}")
