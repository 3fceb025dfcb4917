// Singular value decompositions of a stack of small matrices by one-sided Jacobi rotations: one block a matrix.
//
// Columns of A are rotated against each other until they are orthogonal; their lengths then are the singular values,
// A V = U S. Pairs follow a round-robin tournament, so that the rotations of a round touch different columns and each
// warp does one of them at a time. Squares of columns that do not underflow are orthogonal to a few units of roundoff
// whatever their lengths, so graded matrices keep their small singular values; where a column vanishes, U is completed.
// J. Demmel, K. Veselic, SIAM J. Matrix Anal. Appl. 13 (1992) 1204-1245.
//
// A host compiler can compile the file too, if it is told what a thread and a block are (the tests do): LANES 1.

#ifndef LANES
#define LANES 32
__device__ inline int lane_of() { return threadIdx.x % LANES; }
template <typename R>
__device__ inline R lane_sum(R x)
{
    for (int step = LANES / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
template <typename R>
__device__ inline R lane_largest(R x)
{
    for (int step = LANES / 2; step > 0; step /= 2) {
        R other = __shfl_xor_sync(0xffffffffu, x, step);
        x = other > x ? other : x;
    }
    return x;
}
__device__ inline void lane_wait() { __syncwarp(); }
#define SHARED(name) extern __shared__ double name[]
#else
__device__ inline int lane_of() { return 0; }
template <typename R>
__device__ inline R lane_sum(R x) { return x; }
template <typename R>
__device__ inline R lane_largest(R x) { return x; }
__device__ inline void lane_wait() {}
#endif

template <typename R>
struct Real {
    typedef R real;
    R re;
    __device__ R squared() const { return re * re; }
    __device__ R largest() const { return re < 0 ? -re : re; }
    __device__ R size() const { return largest(); }
    __device__ bool finite() const { return re - re == 0; }
    __device__ Real over(R c) const { return Real{re / c}; }
    __device__ Real conj() const { return *this; }
    __device__ Real times(R c) const { return Real{re * c}; }
    __device__ Real times(Real z) const { return Real{re * z.re}; }
    __device__ Real plus(Real z) const { return Real{re + z.re}; }
    __device__ Real minus(Real z) const { return Real{re - z.re}; }
    __device__ static Real of(R re) { return Real{re}; }
    __device__ Real summed() const { return Real{lane_sum(re)}; }
};

template <typename R>
struct Complex {
    typedef R real;
    R re, im;
    __device__ R squared() const { return re * re + im * im; }
    __device__ R largest() const { R a = re < 0 ? -re : re, b = im < 0 ? -im : im; return a > b ? a : b; }
    __device__ R size() const { return hypot(re, im); }
    __device__ bool finite() const { return re - re == 0 && im - im == 0; }
    __device__ Complex over(R c) const { return Complex{re / c, im / c}; }
    __device__ Complex conj() const { return Complex{re, -im}; }
    __device__ Complex times(R c) const { return Complex{re * c, im * c}; }
    __device__ Complex times(Complex z) const { return Complex{re * z.re - im * z.im, re * z.im + im * z.re}; }
    __device__ Complex plus(Complex z) const { return Complex{re + z.re, im + z.im}; }
    __device__ Complex minus(Complex z) const { return Complex{re - z.re, im - z.im}; }
    __device__ static Complex of(R re) { return Complex{re, 0}; }
    __device__ Complex summed() const { return Complex{lane_sum(re), lane_sum(im)}; }
};

template <typename R>
__device__ inline R root(R x) { return sqrt(x); }

// a^H b of two columns; all lanes of the warp get it.
template <typename T>
__device__ inline T inner(const T* a, const T* b, int rows)
{
    T sum = T::of(0);
    for (int i = lane_of(); i < rows; i += LANES) sum = sum.plus(a[i].conj().times(b[i]));
    return sum.summed();
}

template <typename T>
__device__ inline typename T::real squares(const T* a, int rows)
{
    typename T::real sum = 0;
    for (int i = lane_of(); i < rows; i += LANES) sum += a[i].squared();
    return lane_sum(sum);
}

// Rotates columns a, b of A and of V so that they are orthogonal and a is the longer one; tells whether there was need.
template <typename T>
__device__ inline bool rotate(T* a, T* b, T* v, T* w, int rows, int columns, typename T::real eps,
                              typename T::real smallest)
{
    typedef typename T::real R;
    R alpha = squares(a, rows), beta = squares(b, rows);
    T product = inner(a, b, rows);
    bool exchange = alpha < beta;
    bool apart = (exchange ? alpha : beta) <= smallest;  // a column that vanishes is orthogonal to all
    R size = product.size();
    apart = apart || size <= eps * root(alpha) * root(beta);
    if (apart && !exchange) return false;
    R s = 0, tau = 0;  // sine, and tangent of half the angle: rounding the cosine would lengthen columns
    T phase = T::of(1);
    if (!apart) {
        phase = product.over(size).conj();
        R zeta = (beta - alpha) / (2 * size);
        R length = zeta < 0 ? -zeta : zeta;
        R t = 1 / (length > 1 ? length * (1 + root(1 + 1 / length / length)) : length + root(1 + length * length));
        t = zeta < 0 ? -t : t;
        R c = 1 / root(1 + t * t);
        s = c * t;
        tau = s / (1 + c);
    }
    for (int part = 0; part < 2; part++) {
        T* x = part ? v : a;
        T* y = part ? w : b;
        int n = part ? columns : rows;
        for (int i = lane_of(); i < n; i += LANES) {
            T turned = y[i].times(phase);
            T first = x[i].minus(turned.plus(x[i].times(tau)).times(s));
            T second = turned.plus(x[i].minus(turned.times(tau)).times(s));
            x[i] = exchange ? second : first;
            y[i] = exchange ? first : second;
        }
    }
    return !apart;
}

// A: a stack of rows x columns matrices, rows >= columns, in C order, as are U (rows x columns) and Vh (columns x
// columns); s: columns values each, descending; V: work space like Vh. flag: 0, or 1 where the sweeps did not do, or 2
// where A is not finite (all results are NaN then). Shared memory: rows * columns entries, columns + rows reals and
// columns + 2 integers.
template <typename T>
__device__ void decompose(const T* A, T* U, typename T::real* s, T* Vh, T* V, int* flag, int rows, int columns,
                          int sweeps, typename T::real unit, typename T::real tiny, double* memory)
{
    typedef typename T::real R;
    const int block = blockIdx.x, me = threadIdx.x, threads = blockDim.x;
    const int warp = me / LANES, warps = threads / LANES, total = rows * columns;
    A += (size_t)block * total;
    U += (size_t)block * total;
    Vh += (size_t)block * columns * columns;
    V += (size_t)block * columns * columns;
    s += (size_t)block * columns;
    T* W = (T*)memory;  // the columns of A, one after the other
    R* lengths = (R*)(W + total);
    R* room = lengths + columns;
    int* place = (int*)(room + rows);
    int* notes = place + columns;  // whether something was rotated; whether A is not finite

    if (me == 0) notes[0] = notes[1] = 0;
    __syncthreads();
    R largest = 0;
    for (int i = me; i < total; i += threads) {
        T x = A[i];
        W[(i % columns) * rows + i / columns] = x;
        if (!x.finite()) notes[1] = 1;
    }
    for (int i = me; i < columns * columns; i += threads) V[i] = T::of(i / columns == i % columns ? 1 : 0);
    __syncthreads();
    for (int i = lane_of(); i < total; i += LANES) largest = W[i].largest() > largest ? W[i].largest() : largest;
    largest = lane_largest(largest);
    if (notes[1]) {
        R nan = unit - unit;
        nan = nan / nan;
        for (int i = me; i < total; i += threads) U[i] = T::of(nan);
        for (int i = me; i < columns * columns; i += threads) Vh[i] = T::of(nan);
        for (int i = me; i < columns; i += threads) s[i] = nan;
        if (me == 0) flag[block] = 2;
        return;
    }
    // Entries of at most one, so that squares do not overflow; a power of two would keep bits, but need not.
    R scale = largest > tiny ? largest : 1;
    __syncthreads();
    for (int i = me; i < total; i += threads) W[i] = W[i].over(scale);
    __syncthreads();

    const int players = columns + columns % 2;
    const R smallest = tiny / unit;
    bool done = columns < 2;
    for (int sweep = 0; sweep < sweeps && !done; sweep++) {
        for (int round = 0; round < players - 1; round++) {
            for (int pair = warp; pair < players / 2; pair += warps) {
                // Player 0 stays, the others move round the table.
                int p = pair == 0 ? 0 : 1 + (round + pair - 1) % (players - 1);
                int q = 1 + (round + players - 2 - pair) % (players - 1);
                if (p > q) { int other = p; p = q; q = other; }
                if (q >= columns) continue;
                if (rotate(W + p * rows, W + q * rows, V + p * columns, V + q * columns, rows, columns,
                           2 * unit * root((R)rows), smallest) && lane_of() == 0)
                    notes[0] = 1;
            }
            __syncthreads();
        }
        done = notes[0] == 0;
        __syncthreads();
        if (me == 0) notes[0] = 0;
        __syncthreads();
    }
    if (me == 0) flag[block] = done ? 0 : 1;

    for (int j = warp; j < columns; j += warps) {
        R square = squares(W + j * rows, rows);
        R length = square <= smallest ? 0 : root(square);
        for (int i = lane_of(); i < rows; i += LANES)
            W[j * rows + i] = length > 0 ? W[j * rows + i].over(length) : T::of(0);
        if (lane_of() == 0) lengths[j] = length;
    }
    __syncthreads();
    for (int j = me; j < columns; j += threads) {
        int before = 0;
        for (int k = 0; k < columns; k++) before += lengths[k] > lengths[j] || (lengths[k] == lengths[j] && k < j);
        place[j] = before;
    }
    __syncthreads();

    // Columns that vanished: the unit vector that is furthest from what is there, made orthogonal to that.
    if (warp == 0) {
        for (int j = 0; j < columns; j++) {
            if (lengths[j] > 0) continue;
            for (int i = lane_of(); i < rows; i += LANES) {
                R there = 0;
                for (int k = 0; k < columns; k++) there += W[k * rows + i].squared();
                room[i] = 1 - there;
            }
            lane_wait();
            int best = 0;
            for (int i = 1; i < rows; i++) best = room[i] > room[best] ? i : best;
            T* x = W + j * rows;
            for (int time = 0; time < 2; time++) {
                // The vector is kept in U, because it must not count among the columns that it is compared with.
                if (time == 0)
                    for (int i = lane_of(); i < rows; i += LANES) U[i] = T::of(i == best ? 1 : 0);
                for (int k = 0; k < columns; k++) {
                    if (k == j) continue;
                    T part = inner(W + k * rows, U, rows);
                    for (int i = lane_of(); i < rows; i += LANES)
                        U[i] = U[i].minus(W[k * rows + i].times(part));
                }
            }
            R length = root(squares(U, rows));
            for (int i = lane_of(); i < rows; i += LANES) x[i] = U[i].over(length);
            lane_wait();
        }
    }
    __syncthreads();

    for (int i = me; i < total; i += threads) {
        int j = i / rows, row = i % rows;
        U[row * columns + place[j]] = W[i];
    }
    for (int i = me; i < columns * columns; i += threads) {
        int j = i / columns;
        Vh[place[j] * columns + i % columns] = V[i].conj();
    }
    for (int j = me; j < columns; j += threads) s[place[j]] = lengths[j] * scale;
}

#define KERNEL(name, T, R, unit, tiny)                                                                              \
    extern "C" __global__ void name(const T* A, T* U, R* s, T* Vh, T* V, int* flag, int rows, int columns, int sweeps) \
    {                                                                                                                \
        SHARED(memory);                                                                                              \
        decompose<T>(A, U, s, Vh, V, flag, rows, columns, sweeps, unit, tiny, memory);                               \
    }

KERNEL(svd_float32, Real<float>, float, 5.9604645e-8f, 1.1754944e-38f)
KERNEL(svd_float64, Real<double>, double, 1.1102230246251565e-16, 2.2250738585072014e-308)
KERNEL(svd_complex64, Complex<float>, float, 5.9604645e-8f, 1.1754944e-38f)
KERNEL(svd_complex128, Complex<double>, double, 1.1102230246251565e-16, 2.2250738585072014e-308)
