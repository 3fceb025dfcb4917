"""Convolution and pooling: against PyTorch, central differences, plain loops, and each other."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from helpers import Library, dense, random_lowrank, relative_error
from hypothesis import given
from hypothesis import strategies as st

from dlra import DlraWarning, LowRank
from dlra.kernels import _compiled
from dlra.nn import _patches, _pooling
from dlra.nn._layer import moved
from dlra.nn._patches import Windows, fold_generic, unfold_generic
from dlra.nn.convolution import AvgPool2d, Conv2d, LowRankConv2d, MaxPool2d

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

GEOMETRIES = [
    Windows((J, K), stride, padding, dilation)
    for J, K in ((3, 2), (1, 3))
    for stride in ((1, 1), (2, 3))
    for padding in ((0, 0), (1, 2), (5, 4))
    for dilation in ((1, 1), (2, 1), (3, 2))
]
POOLS = [
    Windows(kernel, stride, padding)
    for kernel in ((2, 2), (3, 2), (4, 5), (1, 1))
    for stride in (kernel, (1, 1), (2, 3))
    for padding in ((0, 0), (kernel[0] // 2, kernel[1] // 2))
]
SHAPES = [(2, 3, 7, 9), (3, 2, 11, 8)]  # strides do not divide them, N and C differ


def layouts(x):
    """The same images in the memory orders that occur: batch first, channels first, strided, backwards, read-only."""
    wide = np.repeat(x, 2, axis=3)
    fixed = x.copy()
    fixed.flags.writeable = False
    swapped = np.ascontiguousarray(x.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    return x, swapped, wide[..., ::2], x[:, :, ::-1].copy()[:, :, ::-1], fixed


def passes(layer, x, delta, parameters=None, wants_dx=True):
    """Output, derivative by the input and derivatives by the parameters."""
    parameters = layer.parameters if parameters is None else parameters
    y, tape = layer.forward(x, parameters, False)
    return y, *layer.backward(delta, tape, parameters, wants_dx)


def conv(windows, C, F=4, dtype="float64", rank=None, bias=True):
    if rank is None:
        layer = Conv2d(C, F, *windows, bias, dtype=dtype, rng=1)
    else:
        layer = LowRankConv2d(C, F, windows.kernel, rank, *windows[1:], bias, dtype=dtype, rng=1)
    if bias:
        layer.bias[:] = np.random.default_rng(2).standard_normal(F)
    return layer


# ---- against PyTorch


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("windows", GEOMETRIES, ids=str)
def test_convolution_is_that_of_torch(windows, dtype, rng):
    torch = pytest.importorskip("torch")
    for shape in SHAPES:
        layer = conv(windows, shape[1], dtype=dtype)
        x = rng.standard_normal(shape).astype(dtype)
        tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, layer.kernel, layer.bias))
        ty = torch.nn.functional.conv2d(tx, tw, tb, windows.stride, windows.padding, windows.dilation)
        delta = rng.standard_normal(ty.shape).astype(dtype)
        ty.backward(torch.tensor(delta))
        for images in layouts(x):
            y, dx, (dW, db) = passes(layer, images, delta)
            assert y.shape[1:] == layer.output_shape(shape[1:])
            assert y.dtype == dx.dtype == dW.dtype == db.dtype == np.dtype(dtype)
            for ours, theirs in (
                (y, ty.detach()),
                (dx, tx.grad),
                (dW.reshape(tw.shape), tw.grad),
                (db, tb.grad),
            ):
                np.testing.assert_allclose(
                    ours, theirs.numpy(), atol=10 * TOLERANCE[dtype], rtol=TOLERANCE[dtype]
                )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("windows", POOLS, ids=str)
@pytest.mark.parametrize(("kind", "name"), [(MaxPool2d, "max_pool2d"), (AvgPool2d, "avg_pool2d")])
def test_pooling_is_that_of_torch(kind, name, windows, dtype, rng):
    torch = pytest.importorskip("torch")
    kernel, stride, padding = windows[:3]
    layer = kind(kernel, None if stride == kernel else stride, padding)
    for shape in SHAPES:
        x = rng.integers(-2, 3, shape).astype(dtype)  # many ties
        tx = torch.tensor(x, requires_grad=True)
        ty = getattr(torch.nn.functional, name)(tx, kernel, stride, padding)
        delta = rng.standard_normal(ty.shape).astype(dtype)
        ty.backward(torch.tensor(delta))
        for images in layouts(x):
            y, dx, _ = passes(layer, images, delta)
            assert y.shape[1:] == layer.output_shape(shape[1:])
            assert not np.shares_memory(y, images)
            np.testing.assert_allclose(y, ty.detach().numpy(), atol=TOLERANCE[dtype])
            np.testing.assert_allclose(dx, tx.grad.numpy(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("windows", [Windows((2, 2), (2, 2)), Windows((2, 3), (2, 1))], ids=str)
def test_max_pool_passes_nan_and_infinity_on_as_torch_does(windows, generic):
    torch = pytest.importorskip("torch")
    x = np.array([[np.nan, 1.0, 2.0, np.inf], [3.0, np.nan, -np.inf, np.inf]])[None, None]
    y, where = (_pooling.max_pool_generic if generic else _pooling.max_pool)(x, windows)
    ty, at = torch.nn.functional.max_pool2d(
        torch.tensor(x), windows.kernel, windows.stride, return_indices=True
    )
    np.testing.assert_array_equal(y, ty.numpy())
    j, column = np.divmod(at.numpy(), 4)
    k = column - windows.stride[1] * np.arange(y.shape[-1])
    np.testing.assert_array_equal(where, windows.kernel[1] * j + k)


# ---- against central differences and plain loops


@pytest.mark.parametrize(
    "layer",
    [
        conv(Windows((3, 2), (2, 1), (1, 2), (1, 2)), 2, 3),
        conv(Windows((2, 2)), 2, 3, rank=2, bias=False),
        MaxPool2d((2, 3), (2, 2), (1, 1)),
        AvgPool2d(3, 2, 1),
    ],
    ids=repr,
)
def test_gradients_against_central_differences(layer, rng):
    x = rng.standard_normal((2, 2, 5, 6))
    c = rng.standard_normal(layer.forward(x, layer.parameters, False)[0].shape)
    _, dx, gradients = passes(layer, x, c.copy())
    parameters = [dense(p) for p in layer.parameters]
    h = 1e-6

    def loss(x, parameters):
        return float(np.sum(c * layer.forward(x, tuple(parameters), False)[0]))

    for gradient, at, position in zip((dx, *gradients), (x, *parameters), range(-1, 9), strict=False):
        E = rng.standard_normal(at.shape)

        def moved_by(s, at=at, E=E, position=position):
            if position < 0:
                return loss(at + s * E, parameters)
            return loss(x, [*parameters[:position], at + s * E, *parameters[position + 1 :]])

        slope = (moved_by(h) - moved_by(-h)) / (2 * h)
        assert np.sum(dense(gradient) * E) == pytest.approx(slope, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("rank", [None, 2])
def test_identity_of_section_6_6(rank, rng):
    """(Z * W)(n, f, u, v) by loops, with the index u + j, and through U, S and V as in equation (20)."""
    N, C, F, J, K = 2, 3, 4, 2, 3
    layer = conv(Windows((J, K)), C, F, rank=rank, bias=False)
    W = dense(layer.weight).reshape(F, C, J, K)
    Z = rng.standard_normal((N, C, 5, 6))
    expected = np.zeros((N, F, 4, 4))
    for n, f, u, v in np.ndindex(expected.shape):
        for c, j, k in np.ndindex(C, J, K):
            expected[n, f, u, v] += W[f, c, j, k] * Z[n, c, u + j, v + k]
    np.testing.assert_allclose(layer.forward(Z, layer.parameters, False)[0], expected, atol=1e-13)
    rows = _patches.unfold(Z, layer._windows)
    assert rows.shape == (N * 16, C * J * K)
    assert rows[1 * 16 + 2 * 4 + 3, (2 * J + 1) * K + 0] == Z[1, 2, 2 + 1, 3 + 0]


# ---- patches


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
geometries = st.builds(Windows, pairs, pairs, st.tuples(st.integers(0, 4), st.integers(0, 4)), pairs)


@given(geometries, st.tuples(*(st.integers(1, n) for n in (3, 3, 9, 9))), st.integers(0, 99))
def test_fold_is_the_adjoint_of_unfold(windows, shape, seed):
    if min(windows.counts(*shape[2:])) < 1:
        return
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    for unfold, fold in ((_patches.unfold, _patches.fold), (unfold_generic, fold_generic)):
        rows = unfold(x, windows)
        p = rng.standard_normal(rows.shape)
        image = fold(p, shape, windows)
        assert image.shape == shape
        scale = np.linalg.norm(rows) * np.linalg.norm(p)
        assert abs(np.vdot(rows, p) - np.vdot(x, image)) <= 1e-14 * scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("windows", GEOMETRIES, ids=str)
def test_compiled_patches_are_the_generic_ones(windows, dtype, rng):
    compiled = pytest.importorskip("dlra.kernels.patches", exc_type=ImportError)
    for shape in SHAPES:
        x = rng.standard_normal(shape).astype(dtype)
        rows = unfold_generic(x, windows)
        for images in layouts(x):
            np.testing.assert_array_equal(compiled.unfold(images, windows), rows)
        p = rng.standard_normal(rows.shape).astype(dtype)
        np.testing.assert_array_equal(compiled.fold(p, shape, windows), fold_generic(p, shape, windows))


def test_kernel_entries_that_meet_nothing_but_padding(rng):
    compiled = pytest.importorskip("dlra.kernels.patches", exc_type=ImportError)
    for windows in (Windows((3, 3), (1, 1), (4, 4), (3, 3)), Windows((9, 9), (2, 1), (4, 5))):
        shape = (2, 2, 1, 2)
        x = rng.standard_normal(shape)
        rows = compiled.unfold(x, windows)
        np.testing.assert_array_equal(rows, unfold_generic(x, windows))
        np.testing.assert_array_equal(compiled.fold(rows, shape, windows), fold_generic(rows, shape, windows))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("windows", POOLS, ids=str)
def test_compiled_pooling_is_the_generic_one(windows, dtype, rng):
    compiled = pytest.importorskip("dlra.kernels.patches", exc_type=ImportError)
    for shape in SHAPES:
        x = rng.integers(-2, 3, shape).astype(dtype)
        y, where = _pooling.max_pool_generic(x, windows)
        assert not np.shares_memory(y, x)
        delta = rng.standard_normal(y.shape).astype(dtype)
        largest = _pooling.max_pool_gradient_generic(delta, where, shape, windows)
        mean = _pooling.average_pool_gradient_generic(delta, shape, windows)
        for images in layouts(x):
            ours, positions = compiled.max_pool(images, windows)
            np.testing.assert_array_equal(ours, y)
            np.testing.assert_array_equal(positions, where)
            for d in layouts(delta):
                np.testing.assert_array_equal(
                    compiled.max_pool_gradient(d, positions, shape, windows), largest
                )
                np.testing.assert_array_equal(compiled.average_pool_gradient(d, shape, windows), mean)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "windows", [Windows((3, 4), (2, 1), (1, 2)), Windows((4, 2), (3, 2), (2, 1))], ids=str
)
def test_a_window_of_nothing_but_minus_infinity(windows, dtype):
    """Its entry lies in the image, not in the padding: otherwise the gradient would be lost."""
    torch = pytest.importorskip("torch")
    compiled = pytest.importorskip("dlra.kernels.patches", exc_type=ImportError)
    x = np.full((2, 3, 6, 7), -np.inf, dtype)
    indices = torch.nn.functional.max_pool2d(torch.tensor(x), *windows[:3], return_indices=True)[1].numpy()
    for pool in (_pooling.max_pool_generic, compiled.max_pool):
        y, where = pool(x, windows)
        np.testing.assert_array_equal(y, -np.inf)
        j, k = np.divmod(where.astype(int), windows.kernel[1])
        u, v = np.indices(y.shape)[2:]
        row, column = (
            u * windows.stride[0] - windows.padding[0] + j,
            v * windows.stride[1] - windows.padding[1] + k,
        )
        np.testing.assert_array_equal(7 * row + column, indices)
        assert where.dtype == _pooling.position_dtype(windows)
    delta = np.ones_like(y)
    assert _pooling.max_pool_gradient_generic(delta, where, x.shape, windows).sum() == delta.size


def test_a_large_pooling_window(rng):
    """More entries than a byte can tell apart."""
    x = rng.standard_normal((2, 1, 40, 40)).astype("float32")
    y, where = _pooling.max_pool(x, Windows((20, 20), (20, 20)))
    assert where.dtype == np.int32 and where.max() > 255
    dx = _pooling.max_pool_gradient(np.ones_like(y), where, x.shape, Windows((20, 20), (20, 20)))
    np.testing.assert_array_equal(dx[dx != 0], 1)
    np.testing.assert_array_equal(np.sort(x[dx != 0]), np.sort(y.ravel()))


def test_memory_order_is_that_of_the_products(rng):
    """Nothing has to be transposed between layers."""
    layer, pool = conv(Windows((3, 3)), 2), MaxPool2d(2)
    y = layer.forward(rng.standard_normal((3, 2, 8, 8)), layer.parameters, False)[0]
    z = pool.forward(y, (), False)[0]
    for a in (y, z):
        assert a.transpose(1, 0, 2, 3).flags.c_contiguous
    assert _patches.unfold(z, Windows((2, 2))).T.flags.c_contiguous


def test_without_numba(rng, monkeypatch):
    layer, x = conv(Windows((3, 2)), 2), rng.standard_normal((2, 2, 6, 7))
    expected = layer.forward(x, layer.parameters, False)[0]
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "dlra.kernels.patches", raising=False)
    _compiled.module.cache_clear()
    _compiled._numba_works.cache_clear()
    try:
        assert _patches.compiled(x) is None
        np.testing.assert_array_equal(layer.forward(x, layer.parameters, False)[0], expected)
    finally:
        _compiled.module.cache_clear()
        _compiled._numba_works.cache_clear()


def test_what_cannot_be_compiled_is_computed_by_the_generic_versions(rng, monkeypatch):
    """With one warning, and only there."""
    kernels = pytest.importorskip("dlra.kernels.patches", exc_type=ImportError)
    from numba.core.errors import TypingError

    x, windows = rng.standard_normal((2, 2, 6, 7)), Windows((2, 2), (2, 2))

    def broken(*_):
        raise TypingError("no such thing")

    for name, generic, arguments in (
        ("unfold", unfold_generic, (x, windows)),
        ("max_pool", _pooling.max_pool_generic, (x, windows)),
    ):
        monkeypatch.setattr(kernels, "_unfold", broken)
        monkeypatch.setattr(kernels, "_max_pool_in_fours", broken)
        monkeypatch.setattr(kernels, name, _compiled.with_twin(generic)(getattr(kernels, name).__wrapped__))
        module = _patches if name == "unfold" else _pooling
        with pytest.warns(DlraWarning, match=f"could not compile dlra.kernels.patches.{name}"):
            found = getattr(module, name)(*arguments)
        np.testing.assert_array_equal(found, generic(*arguments))
        with warnings.catch_warnings(action="error"):
            getattr(module, name)(*arguments)


@pytest.mark.parametrize("order", [">f4", ">f8"])
def test_images_of_another_byte_order(order, rng):
    x, windows = rng.standard_normal((2, 2, 6, 7)).astype(order), Windows((2, 2), (2, 2))
    native = x.astype(x.dtype.newbyteorder("="))
    np.testing.assert_array_equal(_patches.unfold(x, windows), _patches.unfold(native, windows))
    y, where = _pooling.max_pool(x, windows)
    np.testing.assert_array_equal(y, _pooling.max_pool(native, windows)[0])
    np.testing.assert_array_equal(
        _pooling.max_pool_gradient(y, where, x.shape, windows),
        _pooling.max_pool_gradient(y.astype(native.dtype), where, x.shape, windows),
    )


# ---- low rank


@pytest.mark.parametrize("windows", GEOMETRIES[::5], ids=str)
def test_low_rank_is_dense_with_the_product(windows, rng):
    layer = conv(windows, 3, rank=2)
    W = layer.weight
    twin = layer.with_parameters(W.to_dense(), layer.bias)
    assert type(twin) is Conv2d and type(twin.with_parameters(W, None)) is LowRankConv2d
    x = rng.standard_normal((2, 3, 7, 9))
    delta = rng.standard_normal(twin.forward(x, twin.parameters, False)[0].shape)
    y, dx, (dW, db) = passes(layer, x, delta)
    y0, dx0, (dW0, db0) = passes(twin, x, delta)
    assert isinstance(dW, LowRank) and dW.rank == delta.size // delta.shape[1]
    for a, b in ((y, y0), (dx, dx0), (db, db0)):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert relative_error(dW, dW0) < 1e-13


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("windows", GEOMETRIES, ids=str)
def test_split_is_two_convolutions(windows, bias, rng):
    layer = conv(windows, C=3, rank=2, bias=bias)
    first, second = layer.split()
    assert (type(first), type(second)) == (Conv2d, Conv2d)
    assert first._windows == windows and second._windows == Windows((1, 1))
    assert (first.kernel.shape[0], second.kernel.shape) == (2, (4, 2, 1, 1))
    assert first.bias is None and (second.bias is not None) == bias
    x = rng.standard_normal((2, 3, 11, 12))
    middle = first.forward(x, first.parameters, False)[0]
    y = second.forward(middle, second.parameters, False)[0]
    assert relative_error(y, layer.forward(x, layer.parameters, False)[0]) < 1e-14
    shape = (3, 11, 12)
    split = first.flops(shape) + second.flops(first.output_shape(shape))
    assert layer.flops(shape) == split
    assert layer.parameter_count() == first.parameter_count() + second.parameter_count()


def test_flops_are_what_the_loops_of_a_convolution_count():
    layer = Conv2d(3, 4, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), rng=0)
    H, W, count = 7, 6, 0
    for u in range(-1, H + 1 - 2, 2):
        for v in range(-1, W + 1 - 2):
            assert u + 2 <= H and v + 2 <= W
            count += (
                2 * 4 * 3 * 3 * 2
            )  # a multiplication and an addition by filter, channel and entry of the kernel
    assert layer.flops((3, H, W)) == count


def test_a_core_may_be_missing_or_rectangular(rng):
    layer, x = conv(Windows((2, 2)), 2, 5, rank=2, bias=False), rng.standard_normal((2, 2, 4, 5))
    U, S, V = rng.standard_normal((5, 3)), rng.standard_normal((3, 2)), rng.standard_normal((8, 2))
    delta = rng.standard_normal((2, 5, 3, 4))
    for W in (LowRank(U, S, V), LowRank(U[:, :2], None, V)):
        ours, theirs = passes(layer, x, delta, (W,)), passes(layer, x, delta, (W.to_dense(),))
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-13)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-13)


def test_the_kernel_is_never_formed(rng):
    """F x CJK = 1e6 x 9e6 entries would be 36 TB."""
    C, F = 1_000_000, 1_000_000
    V = rng.standard_normal((9 * C, 1)).astype("float32")
    weight = LowRank(np.ones((F, 1), "float32"), np.ones((1, 1), "float32"), V)
    layer = LowRankConv2d(1, 1, 3, 1).with_parameters(weight, None)
    assert layer.output_shape((C, 3, 3)) == (F, 1, 1)
    x = np.ones((1, C, 3, 3), "float32")
    y, dx, (dW,) = passes(layer, x, np.ones((1, F, 1, 1), "float32"))
    assert y[0, 0, 0, 0] == pytest.approx(V.sum(), rel=1e-3, abs=1.0)
    assert dx.shape == x.shape and dW.shape == (F, 9 * C)


def test_the_start_of_a_low_rank_kernel():
    layer = LowRankConv2d(20, 50, 5, 10, start="same-variance", rng=0)
    assert layer.weight.shape == (50, 500) and layer.rank == 10
    assert np.var(layer.weight.to_dense()) == pytest.approx(2 / 500, rel=0.05)
    assert np.var(Conv2d(20, 50, 5, rng=0).weight) == pytest.approx(2 / 500, rel=0.05)
    assert np.var(Conv2d(20, 50, 5, init="xavier", rng=0).weight) == pytest.approx(2 / 1750, rel=0.05)


# ---- the layer as part of a network


def test_nothing_is_folded_for_the_first_layer(monkeypatch, rng):
    layer, x = conv(Windows((2, 2)), 2), rng.standard_normal((2, 2, 4, 5))
    delta = rng.standard_normal((2, 4, 3, 4))
    _, _, expected = passes(layer, x, delta)
    monkeypatch.setattr("dlra.nn.convolution.fold", lambda *_: pytest.fail("folded"))
    _, dx, gradients = passes(layer, x, delta, wants_dx=False)
    assert dx is None
    np.testing.assert_array_equal(gradients[0], expected[0])


def test_the_input_gradient_does_not_depend_on_its_blocks(monkeypatch, rng):
    layer, x = conv(Windows((3, 2), (1, 2), (1, 1)), 2), rng.standard_normal((7, 2, 6, 5))
    delta = rng.standard_normal(layer.forward(x, layer.parameters, False)[0].shape)
    whole = passes(layer, x, delta)[1]
    monkeypatch.setattr("dlra.nn.convolution.BLOCK", 3 * 12 * 18 * 8)  # three images of seven
    np.testing.assert_allclose(passes(layer, x, delta)[1], whole, atol=1e-13)


@pytest.mark.parametrize("layer", [conv(Windows((2, 2)), 2), MaxPool2d(2), AvgPool2d(2)], ids=repr)
def test_an_empty_batch(layer):
    y, dx, _ = passes(layer, np.zeros((0, 2, 4, 4)), np.zeros((0, *layer.output_shape((2, 4, 4)))))
    assert y.shape == (0, *layer.output_shape((2, 4, 4))) and dx.shape == (0, 2, 4, 4)


@pytest.mark.parametrize(
    "layer",
    [conv(Windows((3, 2), (2, 1), (1, 0), (1, 2)), 3), conv(Windows((2, 2)), 3, rank=2, bias=False),
     MaxPool2d((3, 2), 2, 1), AvgPool2d(2)],
    ids=repr,
)  # fmt: skip
def test_made_again_from_its_options(layer, rng):
    options = {name: list(value) for name, value in layer.config().items()}  # as a file gives them
    again = type(layer).from_config(options, layer.parameters)
    x = rng.standard_normal((2, 3, 7, 6))
    y = layer.forward(x, layer.parameters, False)[0]
    np.testing.assert_array_equal(again.forward(x, again.parameters, False)[0], y)
    assert repr(again) == repr(layer) and again.config() == layer.config()


def test_repr():
    assert repr(Conv2d(1, 20, 5)) == "Conv2d(1, 20, 5)"
    layer = LowRankConv2d(3, 8, (3, 2), 4, (2, 1), 1, bias=False)
    assert repr(layer) == "LowRankConv2d(3, 8, (3, 2), rank=4, stride=(2, 1), padding=1, bias=False)"
    assert repr(MaxPool2d(3, 2)) == "MaxPool2d(3, stride=2)"
    assert repr(AvgPool2d(2)) == "AvgPool2d(2)"


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            Conv2d(3, 4, 5),
            (1, 28, 28),
            "takes inputs of shape (batch, 3, height, width), got (batch, 1, 28, 28)",
        ),
        (Conv2d(3, 4, 5), (28, 28, 3), "channels come before height and width"),
        (Conv2d(1, 4, 5), (28, 28), "x[:, None]"),
        (Conv2d(1, 4, 5, padding=1), (1, 2, 28), "covers 5 x 5 pixels, more than the 4 x 30"),
        (Conv2d(1, 4, 3, dilation=3), (1, 6, 28), "covers 7 x 7 pixels"),
        (MaxPool2d(4), (1, 3, 28), "covers 4 x 4 pixels, more than the 3 x 28"),
        (AvgPool2d(2), (28, 28), "takes inputs of shape (batch, channels, height, width)"),
    ],
)
def test_inputs_that_do_not_fit(layer, shape, message):
    with pytest.raises(ValueError, match="^.*$") as error:
        layer.output_shape(shape)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Conv2d(0, 4, 5), ValueError, "in_channels must be at least 1, got 0"),
        (lambda: Conv2d(1, 4, 5, stride=0), ValueError, "stride must be at least 1, got 0"),
        (lambda: Conv2d(1, 4, (5, 5, 5)), ValueError, "kernel_size must be an int or a pair"),
        (lambda: Conv2d(1, 4, 2.5), TypeError, "kernel_size"),
        (lambda: Conv2d(1, 4, 5, padding=-1), ValueError, "padding must be at least 0, got -1"),
        (lambda: Conv2d(1, 4, 5, dilation=(1, 0)), ValueError, "dilation must be at least 1"),
        (lambda: LowRankConv2d(1, 4, 5, 5), ValueError, "rank must not exceed"),
        (lambda: LowRankConv2d(1, 4, 5, 2, init="zero"), ValueError, "init must be one of"),
        (lambda: LowRankConv2d(1, 4, 5, 2).kernel, TypeError, "to_dense"),
        (lambda: MaxPool2d(2, padding=2), ValueError, "at most half of kernel_size = 2, got 2"),
        (lambda: AvgPool2d(2, 0), ValueError, "stride must be at least 1"),
    ],
)
def test_impossible_options(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- array libraries


@pytest.mark.parametrize("rank", [None, 2])
def test_convolution_in_every_library(library: Library, rank, rng):
    layer = conv(Windows((3, 2), (2, 1), (1, 2), (1, 2)), 2, rank=rank)
    x = rng.standard_normal((2, 2, 5, 6))
    delta = rng.standard_normal((2, *layer.output_shape((2, 5, 6))))
    like = library.asarray(x)
    twin = layer.with_parameters(*(moved(p, like) for p in layer.parameters))
    results = passes(twin, like, library.asarray(delta))
    y, dx, (dW, db) = results
    y0, dx0, (dW0, db0) = passes(layer, x, delta)
    for a, b in ((y, y0), (dx, dx0), (db, db0)):
        assert library.owns(a)
        np.testing.assert_allclose(library.to_numpy(a), b, atol=1e-12)
    assert isinstance(dW, LowRank) == isinstance(layer.weight, LowRank)
    assert relative_error(dW, dW0) < 1e-13


@pytest.mark.parametrize("layer", [MaxPool2d((3, 2), (2, 1), 1), AvgPool2d((3, 2), (2, 1), 1)], ids=repr)
def test_pooling_in_every_library(library: Library, layer, rng):
    x = rng.integers(-2, 3, (2, 2, 5, 6)).astype(float)
    delta = rng.standard_normal((2, *layer.output_shape((2, 5, 6))))
    y, dx, _ = passes(layer, library.asarray(x), library.asarray(delta))
    y0, dx0, _ = passes(layer, x, delta)
    for a, b in ((y, y0), (dx, dx0)):
        assert library.owns(a)
        np.testing.assert_allclose(library.to_numpy(a), b, atol=1e-12)


def test_random_lowrank_kernel_of_a_library(eager_library: Library, rng):
    """A dense core and float32: nothing is widened."""
    W = random_lowrank(rng, 4, 8, 2, "float32", eager_library)
    layer = LowRankConv2d(2, 4, 2, 2, bias=False).with_parameters(W, None)
    x = eager_library.asarray(rng.standard_normal((2, 2, 4, 4)), "float32")
    delta = eager_library.asarray(rng.standard_normal((2, 4, 3, 3)), "float32")
    y, dx, (dW,) = passes(layer, x, delta)
    for a in (y, dx, dW):
        assert a.dtype == eager_library.dtype("float32")
