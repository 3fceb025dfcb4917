"""Singular values of many small matrices at once: one member of a stack in each lane of the vector unit.

The columns of 8 matrices (16 in single precision) lie interleaved, [column][row][real, imaginary][member], and every
step of an algorithm is done to all of them. numba does not vectorise loops over so few members by itself; the inner
loops are therefore written in vectors of LLVM here.

They come from the one-sided Jacobi method after a QR factorisation with column pivoting and one of its triangle
(Z. Drmač, K. Veselić, SIAM J. Matrix Anal. Appl. 29 (2008) 1322-1362).

The threads are Python's, as many as NumPy's BLAS has: those of numba end the process in a child of ``fork`` (GNU
OpenMP) or where two threads call at once (workqueue).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

from dlra.kernels._compiled import jit, plain, with_twin
from dlra.kernels.threads import blas_threads, share

_BYTES = 64
"""Size of a vector; processors with shorter ones work in halves or quarters of it."""

_SWEEPS = 40
"""Sweeps after which the Jacobi method has failed; 5 to 10 do."""

intrinsic: Any = _intrinsic
_INT = ir.IntType(64)
_FLAGS = ("contract", "nsz", "reassoc")


class _Vector:
    """A value in every lane, with operators that emit instructions."""

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def _raw(self, other: Any) -> Any:
        if isinstance(other, _Vector):
            return other.value
        return ir.Constant(self.value.type, [float(other)] * self.value.type.count)

    def _done(self, operation: str, left: Any, right: Any) -> _Vector:
        return _Vector(self.builder, getattr(self.builder, operation)(left, right, flags=_FLAGS))

    def __add__(self, other: Any) -> _Vector:
        return self._done("fadd", self.value, self._raw(other))

    def __sub__(self, other: Any) -> _Vector:
        return self._done("fsub", self.value, self._raw(other))

    def __mul__(self, other: Any) -> _Vector:
        return self._done("fmul", self.value, self._raw(other))

    def __truediv__(self, other: Any) -> _Vector:
        return self._done("fdiv", self.value, self._raw(other))

    def __rtruediv__(self, other: float) -> _Vector:
        return self._done("fdiv", self._raw(other), self.value)

    def __gt__(self, other: Any) -> _Vector:
        return _Vector(self.builder, self.builder.fcmp_ordered(">", self.value, self._raw(other)))

    def __lt__(self, other: Any) -> _Vector:
        return _Vector(self.builder, self.builder.fcmp_ordered("<", self.value, self._raw(other)))

    def __and__(self, other: _Vector) -> _Vector:
        return _Vector(self.builder, self.builder.and_(self.value, other.value))

    def where(self, yes: _Vector, no: Any) -> _Vector:
        """``yes`` in the lanes where this mask holds, else ``no``."""
        return _Vector(self.builder, self.builder.select(self.value, yes.value, yes._raw(no)))

    def any(self) -> Any:
        """Whether the mask holds in any lane."""
        bits = self.builder.bitcast(self.value, ir.IntType(self.value.type.count))
        return self.builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    def sqrt(self) -> _Vector:
        kind = self.value.type
        name = f"llvm.sqrt.v{kind.count}f{64 if isinstance(kind.element, ir.DoubleType) else 32}"
        root = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, [kind]), name)
        return _Vector(self.builder, self.builder.call(root, [self.value]))


class _Column:
    """Numbers in every lane, one a row, from an offset of an array on: each of one vector, or two if complex."""

    def __init__(self, context: Any, builder: Any, typ: Any, array: Any, offset: Any, planes: int = 1):
        self.builder, self.planes = builder, planes
        self.align = typ.dtype.bitwidth // 8
        self.kind = ir.VectorType(context.get_data_type(typ.dtype), _BYTES // self.align)
        self.base = builder.gep(context.make_array(typ)(context, builder, array).data, [offset])

    def _pointer(self, row: Any, plane: int) -> Any:
        skip = self.builder.mul(row, ir.Constant(_INT, self.planes * self.kind.count))
        skip = self.builder.add(skip, ir.Constant(_INT, plane * self.kind.count))
        return self.builder.bitcast(self.builder.gep(self.base, [skip]), self.kind.as_pointer())

    def load(self, row: Any) -> list[_Vector]:
        pointers = [self._pointer(row, plane) for plane in range(self.planes)]
        return [_Vector(self.builder, self.builder.load(p, align=self.align)) for p in pointers]

    def store(self, row: Any, number: list[_Vector]) -> None:
        for plane, part in enumerate(number):
            self.builder.store(part.value, self._pointer(row, plane), align=self.align)

    def sums(
        self, rows: Any, count: int, term: Callable[[Any], list[_Vector]], ways: int = 1
    ) -> list[_Vector]:
        """The sums over all rows of the ``count`` values of ``term(row)``, each in as many parts as ``ways``."""
        builder, zero = self.builder, ir.Constant(self.kind, [0.0] * self.kind.count)
        slots = [[cgutils.alloca_once(builder, self.kind) for _ in range(count)] for _ in range(ways)]
        for way in slots:
            for slot in way:
                builder.store(zero, slot)

        def added(row: Any, way: int) -> None:
            for slot, part in zip(slots[way], term(row), strict=True):
                builder.store((_Vector(builder, builder.load(slot)) + part).value, slot)

        done = ir.Constant(_INT, 0)
        if ways > 1:
            rounds = builder.sdiv(rows, ir.Constant(_INT, ways))
            done = builder.mul(rounds, ir.Constant(_INT, ways))
            with cgutils.for_range(builder, rounds) as loop:
                first = builder.mul(loop.index, ir.Constant(_INT, ways))
                for way in range(ways):
                    added(builder.add(first, ir.Constant(_INT, way)), way)
        with cgutils.for_range(builder, rows, start=done) as loop:
            added(loop.index, 0)
        totals = [_Vector(builder, builder.load(slot)) for slot in slots[0]]
        for others in slots[1:]:
            totals = [
                t + _Vector(builder, builder.load(slot)) for t, slot in zip(totals, others, strict=True)
            ]
        return totals


_ZERO = ir.Constant(_INT, 0)


def _times(x: list[_Vector], y: list[_Vector]) -> list[_Vector]:
    return [x[0] * y[0]] if len(x) == 1 else [x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]]


def _conj(x: list[_Vector]) -> list[_Vector]:
    return x if len(x) == 1 else [x[0], x[1] * -1.0]


def _inner(x: list[_Vector], y: list[_Vector]) -> list[_Vector]:
    """conj(x) y."""
    return [x[0] * y[0]] if len(x) == 1 else [x[0] * y[0] + x[1] * y[1], x[0] * y[1] - x[1] * y[0]]


def _square(x: list[_Vector]) -> _Vector:
    return x[0] * x[0] if len(x) == 1 else x[0] * x[0] + x[1] * x[1]


# In what follows `planes` is (0,) for real and (0, 0) for complex numbers: its length is known to the compiler. Columns
# are given by a flat array and an offset.


@intrinsic
def _norms(typing_context, planes, X, x, rows, out, o):
    """Store |x|² in ``out``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        column = _Column(context, builder, X, args[1], args[2], planes.count)
        total = column.sums(args[3], 1, lambda row: [_square(column.load(row))], ways=4)
        _Column(context, builder, out, args[4], args[5]).store(_ZERO, total)
        return context.get_dummy_value()

    return types.void(planes, X, x, rows, out, o), code


@intrinsic
def _reflect(typing_context, planes, X, x, Y, y, rows, tau, o):
    """Subtract tau x xᴴy from y."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = _Column(context, builder, X, args[1], args[2], planes.count)
        right = _Column(context, builder, Y, args[3], args[4], planes.count)
        (factor,) = _Column(context, builder, tau, args[6], args[7]).load(_ZERO)
        rows = args[5]
        product = left.sums(rows, planes.count, lambda row: _inner(left.load(row), right.load(row)), ways=4)
        product = [part * factor for part in product]
        with cgutils.for_range(builder, rows) as loop:
            change = _times(product, left.load(loop.index))
            right.store(loop.index, [a - b for a, b in zip(right.load(loop.index), change, strict=True)])
        return context.get_dummy_value()

    return types.void(planes, X, x, Y, y, rows, tau, o), code


@intrinsic
def _rotate(typing_context, planes, X, x, y, V, v, w, rows, squares, scales, i, j, bound):
    """Make columns x and y of X orthogonal by a rotation, done to v and w of V too, so that x is the longer one.

    The columns stand for their products with ``scales`` at i and j, of which only quotients occur, and ``squares`` are
    the squares of their norms. Nothing happens in lanes with |xᴴy|² <= bound |x|² |y|². Returns 0 where nothing
    happened at all, 2 where y has become so short that its square will underflow, else 1.
    """
    count = planes.count
    short = 1e-100 if X.dtype.bitwidth == 64 else 1e-12

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def column(typ: Any, array: int, offset: int, planes: int = 1) -> _Column:
            return _Column(context, builder, typ, args[array], args[offset], planes)

        x, y = column(X, 1, 2, count), column(X, 1, 3, count)
        v, w = column(V, 4, 5, count), column(V, 4, 6, count)
        rows = args[7]
        long_square, short_square = column(squares, 8, 10), column(squares, 8, 11)
        long_scale, short_scale = column(scales, 9, 10), column(scales, 9, 11)
        (a,), (b,) = long_square.load(_ZERO), short_square.load(_ZERO)
        (scale_x,), (scale_y,) = long_scale.load(_ZERO), short_scale.load(_ZERO)
        g = x.sums(rows, count, lambda row: _inner(x.load(row), y.load(row)), ways=4)
        size = _square(g)
        tolerance = _spread(builder, context.cast(builder, args[12], bound, X.dtype), x.kind)
        active = size > a * b * tolerance
        result = cgutils.alloca_once_value(builder, _ZERO)
        with builder.if_then(active.any()):
            ratio = scale_y / scale_x
            swap = ratio * ratio * b > a
            ratio = swap.where(scale_x / scale_y, ratio)
            a, b = swap.where(b, a), swap.where(a, b)
            # tan = ratio · slope of the angle that makes the two orthogonal, where a is the larger square
            size = size.sqrt()
            z = (a - ratio * ratio * b) * 0.5 / size
            slope = 1.0 / (z + (ratio * ratio + z * z).sqrt())
            tan = ratio * slope
            cos = 1.0 / (tan * tan + 1.0).sqrt()
            phase = [part / size for part in g]

            def rotor(p: _Column, q: _Column, gain: _Vector, loss: _Vector) -> Callable[[Any], list[_Vector]]:
                pp, pq = active.where(swap.where(gain, cos), 1.0), swap.where(cos, gain)
                qp, qq = swap.where(cos, loss), active.where(swap.where(loss, cos), 1.0)
                to_p = [active.where(pq * h, 0.0) for h in _conj(phase)]
                to_q = [active.where(qp * h, 0.0) for h in phase]

                def rotated(row: Any) -> list[_Vector]:
                    s, e = p.load(row), q.load(row)
                    s1 = [pp * k + h for k, h in zip(s, _times(to_p, e), strict=True)]
                    e1 = [qq * k - h for k, h in zip(e, _times(to_q, s), strict=True)]
                    p.store(row, s1)
                    q.store(row, e1)
                    return [_square(s1), _square(e1)]

                return rotated

            new_a, new_b = x.sums(rows, 2, rotor(x, y, cos * tan * ratio, cos * slope))
            both = rotor(v, w, cos * tan, cos * tan)
            with cgutils.for_range(builder, rows) as loop:
                both(loop.index)
            long_square.store(_ZERO, [new_a])
            short_square.store(_ZERO, [new_b])
            swap = swap & active
            long_scale.store(_ZERO, [swap.where(scale_y, scale_x)])
            short_scale.store(_ZERO, [swap.where(scale_x, scale_y)])
            shrunk = ((new_b < short) & active).any()
            builder.store(builder.select(shrunk, ir.Constant(_INT, 2), ir.Constant(_INT, 1)), result)
        return builder.load(result)

    return types.int64(planes, X, x, y, V, v, w, rows, squares, scales, i, j, bound), code


def _spread(builder: Any, value: Any, kind: Any) -> _Vector:
    """The same value in all lanes."""
    index = ir.IntType(32)
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(index, 0))
    mask = ir.Constant(ir.VectorType(index, kind.count), [0] * kind.count)
    return _Vector(builder, builder.shuffle_vector(first, empty, mask))


@jit(error_model="numpy")
def _power(x):
    """The exponent e with 2ᵉ/2 <= x < 2ᵉ; 0 for 0."""
    return math.frexp(x)[1] if x > 0 else 0


@jit(error_model="numpy")
def _factors(e):
    """Two factors whose product is 2ᵉ, which may be no number itself."""
    return math.ldexp(1.0, e // 2), math.ldexp(1.0, e - e // 2)


@jit(error_model="numpy")
def _scaled(x, e):
    """Return x 2ᵉ."""
    half, rest = _factors(e)
    return x * half * rest


@jit(error_model="numpy")
def _insert(count, value, values, labels):
    """Insert a value, labelled ``count``, into the first ``count`` values, which descend."""
    place = count
    while place > 0 and values[place - 1] < value:
        values[place], labels[place] = values[place - 1], labels[place - 1]
        place -= 1
    values[place], labels[place] = value, count


@jit(error_model="numpy")
def _reflector(W, k, lane, square, diagonal, tau):
    """Turn column k of W, from row k on, into the vector v of I - tau v vᴴ that maps it onto a multiple of e_k."""
    complex_ = W.shape[2] == 2
    length = math.sqrt(square)
    re = W[k, k, 0, lane]
    im = W[k, k, 1, lane] if complex_ else 0 * re
    size = math.sqrt(re * re + im * im)
    phase_re, phase_im = (re / size, im / size) if size > 0 else (0 * re + 1, 0 * re)
    diagonal[k, 0, lane] = -phase_re * length
    W[k, k, 0, lane] = re + phase_re * length
    if complex_:
        diagonal[k, 1, lane] = -phase_im * length
        W[k, k, 1, lane] = im + phase_im * length
    tau[k, lane] = 1 / (length * (length + size)) if length > 0 else 0.0


@jit(error_model="numpy")
def _normalise(Y, n, squares, scales, j):
    """Bring column j of Y to a length near one, by a power of two that goes to the scales."""
    for lane in range(Y.shape[3]):
        largest = 0 * Y[0, 0, 0, 0]
        for i in range(n):
            for c in range(Y.shape[2]):
                largest = max(largest, abs(Y[j, i, c, lane]))
        e = _power(largest)
        square = 0 * largest
        for i in range(n):
            for c in range(Y.shape[2]):
                Y[j, i, c, lane] = _scaled(Y[j, i, c, lane], -e)
                square += Y[j, i, c, lane] ** 2
        squares[j, lane] = square
        scales[j, lane] = _scaled(scales[j, lane], e) if square > 0 else 0.0
        if scales[j, lane] == 0:
            squares[j, lane] = 0
            Y[j, :, :, lane] = 0


@jit(error_model="numpy")
def _completed(Y, n, lane, order, rank):
    """Replace the columns order[rank:] of Y, zero in a lane, by directions orthogonal to the others (of length one)."""
    complex_ = Y.shape[2] == 2
    for k in range(rank):
        square = 0.0
        for i in range(n):
            for c in range(Y.shape[2]):
                square += Y[order[k], i, c, lane] ** 2
        for i in range(n):
            for c in range(Y.shape[2]):
                Y[order[k], i, c, lane] /= math.sqrt(square)
    for found in range(rank, n):
        new = order[found]
        best, least = 0, np.inf
        for i in range(n):
            length = 0.0
            for k in range(found):
                for c in range(Y.shape[2]):
                    length += Y[order[k], i, c, lane] ** 2
            if length < least:
                best, least = i, length
        for i in range(n):
            for c in range(Y.shape[2]):
                Y[new, i, c, lane] = 0.0
        Y[new, best, 0, lane] = 1.0
        for _ in range(3):
            for k in range(found):
                j = order[k]
                re = im = 0.0
                for i in range(n):
                    re += Y[j, i, 0, lane] * Y[new, i, 0, lane]
                    if complex_:
                        re += Y[j, i, 1, lane] * Y[new, i, 1, lane]
                        im += Y[j, i, 0, lane] * Y[new, i, 1, lane] - Y[j, i, 1, lane] * Y[new, i, 0, lane]
                for i in range(n):
                    Y[new, i, 0, lane] -= re * Y[j, i, 0, lane]
                    if complex_:
                        Y[new, i, 0, lane] += im * Y[j, i, 1, lane]
                        Y[new, i, 1, lane] -= re * Y[j, i, 1, lane] + im * Y[j, i, 0, lane]
            square = 0.0
            for i in range(n):
                for c in range(Y.shape[2]):
                    square += Y[new, i, c, lane] ** 2
            for i in range(n):
                for c in range(Y.shape[2]):
                    Y[new, i, c, lane] /= math.sqrt(square)


@jit(error_model="numpy")
def _pivoted(W, k, lane, squares, permutation, low):
    """Swap the longest of the columns k, k + 1, ..., from row k on, to place k; return the power of two by which they
    were scaled down where all are so short that squares underflow."""
    n, m, planes, _ = W.shape
    best, e = k, 0
    for j in range(k + 1, n):
        if squares[j, lane] > squares[best, lane]:
            best = j
    if squares[best, lane] < low:
        largest = 0 * W[0, 0, 0, 0]
        for j in range(k, n):
            for i in range(k, m):
                for c in range(planes):
                    largest = max(largest, abs(W[j, i, c, lane]))
        e = _power(largest)
        for j in range(k, n):
            square = 0 * largest
            for i in range(k, m):
                for c in range(planes):
                    W[j, i, c, lane] = _scaled(W[j, i, c, lane], -e)
                    square += W[j, i, c, lane] ** 2
            squares[j, lane] = square
            if square > squares[best, lane]:
                best = j
    if best != k:
        for i in range(m):
            for c in range(planes):
                W[k, i, c, lane], W[best, i, c, lane] = W[best, i, c, lane], W[k, i, c, lane]
        permutation[k, lane], permutation[best, lane] = permutation[best, lane], permutation[k, lane]
        squares[k, lane], squares[best, lane] = squares[best, lane], squares[k, lane]
    return e


@jit(error_model="numpy")
def _svds(planes, A, U, s, Vh, converged, start, stop, sweeps, eps, low):
    """Decompose the members start, ..., stop - 1 of A (members, m, n, planes), m >= n, with all parts of numbers apart.

    ``converged`` tells where the sweeps sufficed.
    """
    _, m, n, p = A.shape
    lanes = _BYTES // A.itemsize
    dtype = A.dtype
    W, V = np.empty((n, m, p, lanes), dtype), np.empty((n, m, p, lanes), dtype)
    Y = np.empty((n, n, p, lanes), dtype)
    tau, squares, lengths, scales = (
        np.empty((n, lanes), dtype),
        np.empty((n, lanes), dtype),
        np.empty((n, lanes), dtype),
        np.empty((n, lanes), dtype),
    )
    diagonal = np.empty((n, p, lanes), dtype)
    permutation = np.empty((n, lanes), np.int64)
    exponent, scale = np.empty(lanes, np.int64), np.empty(lanes, dtype)
    rows, order = np.empty((lanes, m), np.int64), np.empty((lanes, n), np.int64)
    sizes = np.empty(m, dtype)
    Wf, Yf, Vf, tf = W.reshape(-1), Y.reshape(-1), V.reshape(-1), tau.reshape(-1)
    squares_f, lengths_f, scales_f = squares.reshape(-1), lengths.reshape(-1), scales.reshape(-1)
    row = p * lanes  # from one row of a column to the next
    bound = n * eps * eps
    for first in range(start, stop, lanes):
        live = min(lanes, stop - first)
        W[:], tau[:], diagonal[:], scales[:], scale[:] = 0, 0, 0, 0, 1
        for lane in range(live):
            member = A[first + lane]
            for i in range(m):
                largest = 0 * member[0, 0, 0]
                for j in range(n):
                    for c in range(p):
                        largest = max(largest, abs(member[i, j, c]))
                _insert(i, largest, sizes, rows[lane])
            exponent[lane] = _power(sizes[0])
            half, rest = _factors(-exponent[lane])
            for i in range(m):
                for j in range(n):
                    for c in range(p):
                        W[j, i, c, lane] = member[rows[lane, i], j, c] * half * rest

        # A P = Q R, after the rows are sorted by size (A. J. Cox, N. J. Higham, in: Numerical Analysis 1997, 57-73)
        for k in range(n):
            permutation[k] = k
        for k in range(n):
            for j in range(k, n):
                _norms(planes, Wf, (j * m + k) * row, m - k, squares_f, j * lanes)
            for lane in range(live):
                e = _pivoted(W, k, lane, squares, permutation, low)
                scale[lane] = _scaled(scale[lane], e)
                scales[k, lane] = scale[lane]
                _reflector(W, k, lane, squares[k, lane], diagonal, tau)
            for j in range(k + 1, n):
                _reflect(planes, Wf, (k * m + k) * row, Wf, (j * m + k) * row, m - k, tf, k * lanes)

        # Y = Rᴴ, then Y V = U Σ
        for j in range(n):
            for i in range(n):
                for c in range(p):
                    sign = -1 if c == 1 else 1
                    for lane in range(lanes):
                        entry = diagonal[j, c, lane] if i == j else W[i, j, c, lane] if j < i else 0.0
                        Y[j, i, c, lane] = sign * entry
            for i in range(m):
                for c in range(p):
                    for lane in range(lanes):
                        V[j, i, c, lane] = 1.0 if i == j and c == 0 else 0.0
            _normalise(Y, n, squares, scales, j)
        count, rotated = 0, 1
        while rotated > 0 and count < sweeps:
            count, rotated = count + 1, 0
            for i in range(n - 1):
                for j in range(i + 1, n):
                    what = _rotate(
                        planes,
                        Yf,
                        i * n * row,
                        j * n * row,
                        Vf,
                        i * m * row,
                        j * m * row,
                        n,
                        squares_f,
                        scales_f,
                        i * lanes,
                        j * lanes,
                        bound,
                    )
                    rotated += what
                    if what == 2:
                        _normalise(Y, n, squares, scales, j)

        # A = (Q V) Σ (P U)ᴴ
        for lane in range(live):
            k = first + lane
            converged[k] = rotated == 0
            rank = 0
            for j in range(n):
                value = math.sqrt(squares[j, lane]) * scales[j, lane]
                rank += value > 0
                _insert(j, value, sizes, order[lane])
            if rank < n:
                _completed(Y, n, lane, order[lane], rank)
            for j in range(n):
                s[k, j] = _scaled(sizes[j], exponent[lane])
        for k in range(n - 1, -1, -1):
            for j in range(n):
                _reflect(planes, Wf, (k * m + k) * row, Vf, (j * m + k) * row, m - k, tf, k * lanes)
        for j in range(n):
            _norms(planes, Vf, j * m * row, m, squares_f, j * lanes)
            _norms(planes, Yf, j * n * row, n, lengths_f, j * lanes)
        for lane in range(live):
            for place in range(n):
                j = order[lane, place]
                left, right = 1 / math.sqrt(squares[j, lane]), 1 / math.sqrt(lengths[j, lane])
                for c in range(p):
                    for i in range(m):
                        U[first + lane, rows[lane, i], place, c] = V[j, i, c, lane] * left
                    sign = -1 if c == 1 else 1
                    for i in range(n):
                        Vh[first + lane, place, permutation[i, lane], c] = sign * Y[j, i, c, lane] * right


def _parts(a: np.ndarray) -> np.ndarray:
    """The real view (..., planes) of an array, contiguous and in the byte order of the machine."""
    a = plain(a)
    return a.view(_real(a)).reshape(*a.shape, 2 if a.dtype.kind == "c" else 1)


def _real(a: np.ndarray) -> np.dtype:
    return np.finfo(a.dtype).dtype


def _planes(a: np.ndarray) -> tuple[int, ...]:
    return (0, 0) if a.dtype.kind == "c" else (0,)


def _low(a: np.ndarray) -> float:
    """Squares of columns below this one lose digits to underflow."""
    return 1e-150 if _real(a).itemsize == 8 else 1e-16


def _shared(members: int, lanes: int, seconds: float, work: Callable[[int, int], None]) -> None:
    """Do ``work(start, stop)`` for ranges of members, in several threads where it takes long enough."""
    groups = -(-members // lanes)
    count = min(groups, 1 + int(seconds / _SECONDS_A_THREAD), blas_threads())
    if count > 1:
        work(0, 0)  # compiles, and fails, here
    bounds = [min(members, lanes * (groups * i // count)) for i in range(count + 1)]
    share(count, lambda i: work(bounds[i], bounds[i + 1]))


_SECONDS_A_THREAD = 3e-4
"""Work that is worth another thread, which takes a tenth of that to start."""


def svd_by_numpy(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`svd`, but an error is raised where a member does not converge."""
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    return U, s, Vh, np.ones(A.shape[0], np.bool_)


@with_twin(svd_by_numpy)
def svd(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (U, s descending, Vᴴ, converged) of finite matrices (b, p, q), none of b, p and q zero.

    Singular values come with high relative accuracy where columns or rows of a well-conditioned matrix are scaled.
    """
    if A.shape[1] < A.shape[2]:
        U, s, Vh, converged = svd(A.swapaxes(1, 2).conj())
        return Vh.swapaxes(1, 2).conj(), s, U.swapaxes(1, 2).conj(), converged
    b, m, n = A.shape
    A = plain(A)
    U, Vh = np.empty_like(A), np.empty((b, n, n), A.dtype)
    s, converged = np.empty((b, n), _real(A)), np.empty(b, np.bool_)
    arguments = _planes(A), _parts(A), _parts(U), s, _parts(Vh), converged
    eps, low = float(np.finfo(A.dtype).eps), _low(A)

    def work(start: int, stop: int) -> None:
        _svds(*arguments, start, stop, _SWEEPS, eps, low)

    _shared(b, _BYTES // s.itemsize, 1.5e-9 * b * n * n * (m + n), work)
    return U, s, Vh, converged
