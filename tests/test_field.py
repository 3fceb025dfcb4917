"""What F may be: arity, plain and factored, return values of all kinds, dtypes, coupled lists, counting."""

from __future__ import annotations

import functools
import operator
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from helpers import M, N, R, dense, eps, get_library, normal, random_lowrank, relative_error

import dlra
from dlra import DlraWarning, Galerkin, LowRank, SemiLinear, factored
from dlra.backend import dtype_name
from dlra.field import CallError, Factored, Field, Value, bind

# ---- arity ---------------------------------------------------------------------------------------------------


def f_ty(t, Y):
    return ("t, Y", t, Y)


def f_y(Y):
    return ("Y", Y)


def f_default(t, Y, scale=2.0):
    return ("t, Y", t, Y, scale)


def f_y_default(Y, scale=2.0):
    return ("Y", Y, scale)


def f_any(*arguments):
    return ("any", *arguments)


def f_ty_any(t, Y, *arguments):
    return ("t, Y", t, Y, *arguments)


def f_y_any(Y, *arguments):
    return ("Y", Y, *arguments)


def f_keyword(t, Y, *, scale=3.0):
    return ("t, Y", t, Y, scale)


def f_keywords(t, Y, **options):
    return ("t, Y", t, Y, options)


def f_positional_only(t, Y, /):
    return ("t, Y", t, Y)


class Model:
    def method(self, t, Y):
        return ("t, Y", t, Y)

    def autonomous(self, Y):
        return ("Y", Y)

    @staticmethod
    def static(t, Y):
        return ("t, Y", t, Y)

    @classmethod
    def of_class(cls, Y):
        return ("Y", Y)


class Callable:
    def __call__(self, t, Y):
        return ("t, Y", t, Y)


class Uninspectable:
    __signature__ = "not a signature"

    def __call__(self, *arguments):
        return ("any", *arguments)


@functools.wraps(f_y)
def decorated(*arguments, **options):
    return f_y(*arguments, **options)


ARITY = [
    (f_ty, (), ("t, Y", 1, 2)),
    (f_y, (), ("Y", 2)),
    (f_default, (), ("t, Y", 1, 2, 2.0)),
    (f_y_default, (), ("Y", 2, 2.0)),
    (f_any, (), ("any", 1, 2)),
    (f_any, (7,), ("any", 1, 2, 7)),
    (f_any, (7, 8), ("any", 1, 2, 7, 8)),
    (f_ty_any, (), ("t, Y", 1, 2)),
    (f_ty_any, (7,), ("t, Y", 1, 2, 7)),
    (f_ty_any, (7, 8), ("t, Y", 1, 2, 7, 8)),
    (f_y_any, (), ("Y", 2)),
    (f_y_any, (7,), ("Y", 2, 7)),
    (f_y_any, (7, 8), ("Y", 2, 7, 8)),
    (f_keyword, (), ("t, Y", 1, 2, 3.0)),
    (f_keywords, (), ("t, Y", 1, 2, {})),
    (f_positional_only, (), ("t, Y", 1, 2)),
    (lambda t, Y, a: (t, Y, a), (7,), (1, 2, 7)),
    (lambda Y, a: (Y, a), (7,), (2, 7)),
    (lambda t, Y, a, b: (t, Y, a, b), (7, 8), (1, 2, 7, 8)),
    (lambda Y, a, b: (Y, a, b), (7, 8), (2, 7, 8)),
    (functools.partial(lambda a, t, Y: (a, t, Y), 7), (), (7, 1, 2)),
    (functools.partial(lambda t, Y, a: (t, Y, a), a=7), (), (1, 2, 7)),
    (functools.partial(lambda Y, a: (Y, a), a=7), (), (2, 7)),
    (Model().method, (), ("t, Y", 1, 2)),
    (Model().autonomous, (), ("Y", 2)),
    (Model.static, (), ("t, Y", 1, 2)),
    (Model.of_class, (), ("Y", 2)),
    (Callable(), (), ("t, Y", 1, 2)),
    (Uninspectable(), (), ("any", 1, 2)),
    (Uninspectable(), (7,), ("any", 1, 2, 7)),
    (decorated, (), ("Y", 2)),
    (operator.neg, (), -2),
    (operator.sub, (), -1),
]


@pytest.mark.parametrize(("F", "args", "expected"), ARITY)
@pytest.mark.parametrize("wrap", [lambda F: F, factored], ids=["plain", "factored"])
def test_arity(F, args, expected, wrap):
    assert bind(wrap(F), args)(1, 2) == expected


@pytest.mark.parametrize(
    ("F", "args", "text"),
    [
        (lambda: None, (), r"0 required positional arguments \(nothing\)"),
        (lambda t, Y, a: None, (), r"3 required positional arguments \(t, Y, a\).*args"),
        (
            lambda Y: None,
            (7,),
            r"F must take \(t, Y\) or \(Y\) and the 1 extra arguments in args, got .* of 1 ",
        ),
        (lambda t, Y, a: None, (7, 8, 9), r"3 extra arguments .* of 3 required"),
    ],
)
def test_wrong_arity(F, args, text):
    with pytest.raises(TypeError, match=text):
        bind(F, args)


def test_required_keyword_arguments_are_refused():
    def F(t, Y, *, k):
        raise AssertionError("F was called")

    with pytest.raises(
        TypeError, match=r"F must not require keyword arguments.* k; .*functools\.partial\(F, k="
    ):
        bind(F, ())
    bind(functools.partial(F, k=1), ())


@pytest.mark.parametrize("F", [None, 3.0, "rotation", np.eye(3), [1.0]])
def test_not_callable(F):
    with pytest.raises(TypeError, match=rf"F must be callable.*got {type(F).__name__}"):
        bind(F, ())


def test_args_must_be_a_tuple(rng):
    Y = random_lowrank(rng, M, N, R)
    for args in (3.0, [3.0], {"a": 1}, "text"):
        with pytest.raises(TypeError, match=rf"args must be a tuple.*{type(args).__name__}.*args=\(value,\)"):
            Field(lambda Y, a: a * Y, (Y,), args)


# ---- factored ------------------------------------------------------------------------------------------------


def test_factored_is_a_decorator():
    @factored
    def F(t, Y):
        """Documented."""
        return ("called", t, Y)

    assert isinstance(F, Factored) and F(1, 2) == ("called", 1, 2)
    assert F.__name__ == "F" and F.__doc__ == "Documented."
    assert factored(F) is F
    assert "F" in repr(F) and repr(F).startswith("factored(")
    assert repr(factored(functools.partial(f_y))).startswith("factored(")


def test_factored_needs_a_callable():
    with pytest.raises(TypeError, match=r"factored takes a callable F\(t, Y\) or F\(Y\), got ndarray"):
        factored(np.eye(3))


def kinds_of(field, Y):
    seen = []

    def F(Y):
        seen.append(type(Y))
        return -Y

    Field(field(F), (Y,))(0.0, (Y,))
    return seen


def test_plain_gets_an_array_and_factored_a_low_rank_matrix(library, rng):
    Y = random_lowrank(rng, M, N, R, "float64", library)
    assert kinds_of(lambda F: F, Y) == [type(Y.U)]
    assert kinds_of(factored, Y) == [LowRank]


A, B, C = (np.random.default_rng(1).standard_normal(shape) for shape in ((M, M), (N, N), (M, 1)))
D = np.random.default_rng(2).standard_normal((N, 1))

BOTH_WAYS = {
    "sum of products": lambda t, Y: A @ Y + Y @ B + C @ D.T,
    "difference": lambda t, Y: C @ D.T - 2 * Y - t * (A @ Y),
    "autonomous": lambda Y: A @ Y @ B.T,
    "sparse": lambda t, Y: sp.csr_array(A) @ Y + Y @ sp.csc_array(B),
    "array alone": lambda t, Y: C @ D.T,
    "sparse alone": lambda t, Y: sp.csr_array(C @ D.T),
    "old sparse": lambda t, Y: Y + sp.csr_matrix(C @ D.T),
    "operator": lambda t, Y: dlra.matmul(spla.aslinearoperator(A), Y),
    "operator alone": lambda t, Y: spla.aslinearoperator(C @ D.T),
    "entrywise square": lambda Y: Y * Y - Y,
    "rows": lambda Y: Y * C,
    "columns": lambda Y: D.T * Y,
    "inner product": lambda Y: Y @ Y.T @ C @ D.T,
    "low rank constant": lambda Y: LowRank(C, None, D) + Y if isinstance(Y, LowRank) else C @ D.T + Y,
    "matmul": lambda Y: dlra.matmul(A, Y) + dlra.matmul(Y, B),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_the_same_expression_plain_and_factored(rng, name):
    """All questions of an integrator have the same answer."""
    F = BOTH_WAYS[name]
    Y = random_lowrank(rng, M, N, R)
    X, Z = normal(rng, (N, 2)), normal(rng, (M, 2))
    answers = []
    for wrapped in (F, factored(F)):
        (G,) = Field(wrapped, (Y,))(0.7, (Y,))
        assert isinstance(G, Value) and G.shape == (M, N)
        answers.append([G @ X, G.H @ Z, G.rows(np.array([3, 0])), G.columns(np.array([1]))])
        assert G.rest is G
    for plain, low in zip(*answers, strict=True):
        assert isinstance(plain, np.ndarray) and isinstance(low, np.ndarray)
        assert relative_error(low, plain) < 1e-13


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_a_step_plain_and_factored(rng, name):
    F, Y = BOTH_WAYS[name], random_lowrank(rng, M, N, R)
    plain, low = (dlra.step(wrapped, 0.0, 0.05, Y) for wrapped in (F, factored(F)))
    assert relative_error(low, plain) < 1e-12


def test_the_same_expression_in_every_library(typed_library, rng):
    library, dtype = typed_library
    Y = random_lowrank(rng, M, N, R, dtype, library)
    hosts = [normal(rng, shape, dtype) for shape in ((M, M), (N, N), (M, 1), (N, 1))]
    a, b, c, d = (library.asarray(host) for host in hosts)

    def F(t, Y):
        return dlra.matmul(a, Y) + Y @ b - 0.5 * Y + c @ d.T

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = Galerkin(substep="euler") if library.name == "jax" else "augmented-bug"
        plain, low = (dlra.step(wrapped, 0.0, 0.05, Y, method) for wrapped in (F, factored(F)))
    assert library.owns(plain.U) and library.owns(low.U) and dtype_name(low.dtype) == dtype
    assert relative_error(low, plain) < 100 * eps(dtype)


class UserMatrix:
    """What a user may return besides: shape, dtype, @ and .H."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __matmul__(self, X):
        return self._array @ X

    @property
    def H(self):
        return UserMatrix(self._array.conj().T)


def test_any_matrix_may_be_returned(rng):
    """A LowRank, arrays, sparse matrices, LinearOperators, sums, or a class with @ and .H; complex too."""
    Y = random_lowrank(rng, M, N, R, "complex128")
    G = normal(rng, (M, N), "complex128")
    X, Z = normal(rng, (N, 2), "complex128"), normal(rng, (M, 2), "complex128")
    low = random_lowrank(rng, M, N, 2, "complex128")
    for value, expected in (
        (G, G),
        (np.asfortranarray(G), G),
        (sp.coo_array(G), G),
        (sp.csr_matrix(G), G),
        (spla.aslinearoperator(G), G),
        (low, dense(low)),
        (low + low, 2 * dense(low)),
        (low + G, dense(low) + G),
        (1j * (low + sp.csr_array(G)), 1j * (dense(low) + G)),
        (low - spla.aslinearoperator(G), dense(low) - G),
        (UserMatrix(G), G),
    ):
        for wrap in (factored, lambda F: F):
            (got,) = Field(wrap(lambda Y, value=value: value), (Y,))(0.0, (Y,))
            assert relative_error(got @ X, expected @ X) < 1e-13
            assert relative_error(got.H @ Z, expected.conj().T @ Z) < 1e-13


def test_integers_are_numbers(library, rng):
    Y = random_lowrank(rng, M, N, R, "float32", library)
    ones = library.asarray(np.ones((M, N), dtype="int64"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (G,) = Field(lambda Y: ones, (Y,))(0.0, (Y,))
    product = G @ Y.V
    assert dtype_name(product.dtype) == "float32"
    assert relative_error(product, np.ones((M, N)) @ dense(Y.V)) < 1e-6


# ---- what is wrong with a return value -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (None, TypeError, "F's return value is None; is a return statement missing"),
        (3.0, TypeError, "must be a matrix .*got float"),
        (np.float64(3.0), ValueError, rf"shape of Y, \({M}, {N}\), got \(\)"),
        ([[1.0]], TypeError, "must be a matrix .*got list"),
        ("text", TypeError, "must be a matrix .*got str"),
        ((np.ones((M, N)), 1), TypeError, "must be a matrix .*got tuple"),
        (np.ones((N, M)), ValueError, rf"shape of Y, \({M}, {N}\), got \({N}, {M}\)"),
        (np.ones(M), ValueError, rf"shape of Y, \({M}, {N}\), got \({M},\)"),
        (np.ones((M, N, 1)), ValueError, rf"shape of Y, \({M}, {N}\), got \({M}, {N}, 1\)"),
        (np.asarray(1.0), ValueError, r"got \(\)"),
        (sp.csr_array((M, N + 1)), ValueError, rf"got \({M}, {N + 1}\)"),
        (LowRank(np.ones((N, 1)), None, np.ones((M, 1))), ValueError, rf"got \({N}, {M}\)"),
        (np.full((M, N), "a"), TypeError, "must hold numbers, got dtype str"),
        (np.full((M, N), None), TypeError, "must hold numbers, got dtype object"),
        (1j * np.ones((M, N)), TypeError, r"complex128 but Y0 is float64.*Y0\.astype\('complex128'\)"),
        (sp.csr_array(1j * np.ones((M, N))), TypeError, r"complex128 but Y0 is float64.*astype"),
        (
            LowRank(1j * np.ones((M, 1)), None, 1j * np.ones((N, 1))),
            TypeError,
            "complex128 but Y0 is float64.*astype",
        ),
    ],
)
@pytest.mark.parametrize("wrap", [lambda F: F, factored], ids=["plain", "factored"])
def test_wrong_return_values(rng, value, error, text, wrap):
    Y = random_lowrank(rng, M, N, R)
    with pytest.raises(error, match=text):
        dlra.step(wrap(lambda Y: value), 0.0, 0.1, Y)


def test_a_complex_coefficient_of_a_lazy_sum_does_not_slip_through(rng):
    Y = random_lowrank(rng, M, N, R)
    with pytest.raises(TypeError, match=r"complex128 but Y0 is float64.*astype"):
        dlra.step(factored(lambda Y: 1j * (Y + np.ones((M, N)))), 0.0, 0.1, Y)


def test_return_values_of_another_library(foreign, rng):
    Y, Z = random_lowrank(rng, M, N, R), random_lowrank(rng, M, N, R, "float64", foreign)
    for state, value in (
        (Z, np.ones((M, N))),
        (Y, foreign.asarray(np.ones((M, N)))),
        (Z, random_lowrank(rng, M, N, 1)),
        (Y, random_lowrank(rng, M, N, 1, "float64", foreign)),
        (Z, sp.csr_array(np.ones((M, N)))),
        (Z, spla.aslinearoperator(np.ones((M, N)))),
        (Z, Z + sp.csr_array(np.ones((M, N)))),
        (Y, Y + foreign.asarray(np.ones((M, N)))),
    ):
        with pytest.raises(
            TypeError, match=r"F's return value is .* of .*, but Y0 of .*; bring both to one library"
        ):
            dlra.step(factored(lambda Y, value=value: value), 0.0, 0.1, state)


def test_return_values_on_another_device(rng):
    first, second = get_library("strict"), get_library("strict-device1")
    Y = random_lowrank(rng, M, N, R, "float64", first)
    with pytest.raises(TypeError, match="device1.*but Y0 of .*CPU_DEVICE.*one library and device"):
        dlra.step(lambda Y: second.asarray(np.ones((M, N))), 0.0, 0.1, Y)


# ---- dtypes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "returned"), [("float32", "float64"), ("complex64", "complex128"), ("complex64", "float64")]
)
@pytest.mark.parametrize("wrap", [lambda F: F, factored], ids=["plain", "factored"])
def test_wider_values_are_cast_with_one_warning(library, rng, state, returned, wrap):
    if library.name == "jax" and (returned, wrap) != ("complex128", factored):
        pytest.skip("one case is enough where every operation is compiled")
    Y = random_lowrank(rng, M, N, R, state, library)
    G = library.asarray(normal(rng, (M, N), returned))
    F = wrap(lambda t, Y: G)
    with pytest.warns(DlraWarning) as caught:
        solution = dlra.solve(F, (0, 0.02), Y, Galerkin(substep="heun"), dt=0.01)
    assert len(caught) == 1 and solution.nfev == 4
    text = str(caught[0].message)
    assert f"F returns {returned} for a {state} Y0" in text and f"Y0.astype('{returned}')" in text
    final = solution.y_final
    assert all(dtype_name(a.dtype) == state for a in final.factors)


def test_narrower_values_are_widened_silently(library, rng):
    Y = random_lowrank(rng, M, N, R, "complex128", library)
    G = library.asarray(normal(rng, (M, N), "float32"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (value,) = Field(lambda Y: G, (Y,))(0.0, (Y,))
    assert dtype_name((value @ Y.V).dtype) == dtype_name((value.H @ Y.U).dtype) == "complex128"
    assert relative_error(value.H @ Y.U, dense(G).T @ dense(Y.U)) < 1e-6


def test_single_precision_stays_single_without_a_warning(rng):
    Y = random_lowrank(rng, M, N, R, "float32")
    a = A.astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        final = dlra.step(factored(lambda t, Y: a @ Y - np.float64(0.5) * Y), 0.0, 0.1, Y)
    assert final.dtype == np.float32


# ---- coupled systems ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda F: F, factored], ids=["plain", "factored"])
def test_coupled_systems(rng, wrap):
    Y, Z, w = random_lowrank(rng, M, N, R), random_lowrank(rng, N, M, 2), normal(rng, (4,))
    seen = []

    def F(t, members):
        seen.append([type(X) for X in members])
        first, second, vector = members
        return [second.T - first, first.T, -vector]

    field = Field(wrap(F), (Y, Z, w), (), system=True)
    G, H, g = field(0.0, (Y, Z, w))
    kind = LowRank if wrap is factored else np.ndarray
    assert seen == [[kind, kind, np.ndarray]] and field.nfev == 1
    assert isinstance(G, Value) and isinstance(H, Value) and isinstance(g, np.ndarray)
    X = normal(rng, (N, 2))
    assert relative_error(G @ X, (dense(Z).T - dense(Y)) @ X) < 1e-13
    np.testing.assert_array_equal(g, -w)


def test_a_tuple_serves_as_a_list(rng):
    Y, w = random_lowrank(rng, M, N, R), normal(rng, (4, 2))
    G, g = Field(lambda Ys: (-Ys[0], sp.csr_array(w)), (Y, w), (), system=True)(0.0, (Y, w))
    assert relative_error(g, w) == 0 and isinstance(g, np.ndarray)
    assert relative_error(G @ Y.V, -dense(Y) @ Y.V) < 1e-13


@pytest.mark.parametrize(
    ("F", "error", "text"),
    [
        (lambda Ys: [-Ys[0]], ValueError, "F returned 1 matrices for a coupled system of 2 members"),
        (lambda Ys: [*Ys, Ys[0]], ValueError, "F returned 3 matrices for a coupled system of 2 members"),
        (lambda Ys: [], ValueError, "F returned 0 matrices"),
        (lambda Ys: Ys[0], TypeError, "coupled system of 2 members must return a list, got ndarray"),
        (lambda Ys: None, TypeError, "must return a list, got NoneType"),
        (lambda Ys: {"a": 1}, TypeError, "must return a list, got dict"),
        (lambda Ys: [Ys[0], None], TypeError, r"F's return value\[1\] is None"),
        (lambda Ys: [Ys[1], Ys[1]], ValueError, r"F's return value\[0\] must have the shape of Y"),
        (lambda Ys: [Ys[0], Ys[1] + 0j], TypeError, r"F's return value\[1\] is complex128"),
    ],
)
def test_wrong_return_values_of_a_coupled_system(rng, F, error, text):
    Ys = [random_lowrank(rng, M, N, R), normal(rng, (4, 2))]
    with pytest.raises(error, match=text):
        dlra.step(F, 0.0, 0.1, Ys)


# ---- counting, errors, semilinear --------------------------------------------------------------------------------


def test_every_evaluation_is_counted(rng):
    Y = random_lowrank(rng, M, N, R)
    calls = []
    F = factored(lambda t, Y: calls.append(t) or -Y)
    field = Field(F, (Y,))
    assert field.nfev == 0
    for t in (0.0, 0.5):
        field(t, (Y,))
    assert field.nfev == len(calls) == 2 and calls == [0.0, 0.5]
    solution = dlra.solve(F, (0, 1), Y, dt=0.25)
    assert solution.nfev == len(calls) - 2


def test_an_exception_in_f_is_marked(rng):
    Y = random_lowrank(rng, M, N, R)

    def F(Y):
        raise KeyError("missing table")

    with pytest.raises(CallError) as caught:
        Field(F, (Y,))(0.0, (Y,))
    assert isinstance(caught.value.__cause__, KeyError)


def test_args_reach_f(rng):
    Y = random_lowrank(rng, M, N, R)
    (G,) = Field(factored(lambda t, Y, a, c: t * (a @ Y) + c * Y), (Y,), (A, 3.0))(2.0, (Y,))
    assert relative_error(G @ Y.V, (2 * A @ dense(Y) + 3 * dense(Y)) @ Y.V) < 1e-13


@pytest.mark.parametrize("G", ["none", "constant", "plain", "factored"])
def test_value_of_a_semilinear_field(rng, G):
    Y = random_lowrank(rng, M, N, R)
    rest = {
        "none": (None, 0.0 * dense(Y)),
        "constant": (LowRank(C, None, D), C @ D.T),
        "plain": (lambda Y: Y**3, dense(Y) ** 3),
        "factored": (factored(lambda t, Y: t * Y), 0.5 * dense(Y)),
    }[G]
    F = SemiLinear(A, B, rest[0])
    field = Field(F, (Y,))
    assert len(field.linear) == 1 and field.nfev == 0
    (value,) = field(0.5, (Y,))
    expected = A @ dense(Y) + dense(Y) @ B + rest[1]
    assert relative_error(value @ Y.V, expected @ Y.V) < 1e-13
    assert relative_error(value.H @ Y.U, expected.T @ Y.U) < 1e-13
    assert relative_error(value.rows(np.array([1])), expected[[1]]) < 1e-13
    assert relative_error(value.columns(np.array([1])), expected[:, [1]]) < 1e-13
    if G == "none":
        assert value.rest is None
    else:
        assert relative_error(value.rest @ Y.V, rest[1] @ Y.V) < 1e-13
    assert field.nfev == 1
    assert relative_error(dense(F(0.5, Y)), expected) < 1e-13
    assert relative_error(dense(F(0.5, dense(Y))), expected) < 1e-13


def test_a_wrong_constant_of_a_semilinear_field_is_named(rng):
    Y = random_lowrank(rng, M, N, R)
    with pytest.raises(
        ValueError, match=rf"G of SemiLinear must have the shape of Y, \({M}, {N}\), got \({N}, {M}\)"
    ):
        Field(SemiLinear(A, B, np.ones((N, M))), (Y,))


def test_a_semilinear_field_is_for_one_matrix(rng):
    Y = random_lowrank(rng, M, N, R)
    with pytest.raises(TypeError, match="SemiLinear is a field for one matrix"):
        Field(SemiLinear(A), (Y, Y), (), system=True)
