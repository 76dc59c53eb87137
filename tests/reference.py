"""Every kernel again, in plain NumPy, from formats/FORMAT.md alone: what the compiled code is held against.

"Section" means a section of FORMAT.md. One operation on float32 arrays is one rounding: NumPy never fuses two.
"""

from fractions import Fraction
from itertools import combinations

import numpy as np

ENCODE, DRAW, ORDER, SPLIT, SAMPLE, MODEL, RESIDUAL = range(7)  # purposes of random words, section 2


# ---- Randomness: section 2 ----


def philox4x32(counter, key):
    """Philox4x32-10 (section 2): counter (..., 4) uint32 and key (2,) uint32 -> (..., 4) uint32."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = (int(word) for word in key)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ np.uint64(k0), b & low, (a >> half) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def shuffled(rows, seed, column, window):
    """The rows of a window in the order of an epoch (section 5): Fisher and Yates from the end."""
    rows = np.array(rows)
    quads = np.arange(-(-len(rows) // 4), dtype=np.uint64)
    fixed = [np.full_like(quads, value) for value in (column, window, 2 << 16)]
    words = philox4x32(np.stack([fixed[0], quads, *fixed[1:]], axis=-1), (seed & (2**32 - 1), seed >> 32)).ravel()
    for i in range(len(rows) - 1, 0, -1):
        j = (int(words[i]) * (i + 1)) >> 32
        rows[[i, j]] = rows[[j, i]]
    return rows


def row_numbers(rows, row_offset=0):
    """Global row numbers row_offset .. row_offset + rows - 1 as uint64 (section 2)."""
    return np.uint64(row_offset) + np.arange(rows, dtype=np.uint64)


def words(seed, rows, features, purpose, count):
    """Random words 0..count-1 of every (row, feature) (section 2): uint32 (rows, features, count)."""
    rows, f = np.asarray(rows, np.uint64), np.arange(features)
    c0, output = 16 * (f // 64) + f % 16, f % 64 // 16
    counter = np.empty((len(rows), c0.max(initial=-1) + 1, count, 4), np.uint32)
    counter[..., 0] = np.arange(counter.shape[1])[:, None]
    counter[..., 1] = (rows & np.uint64(0xFFFFFFFF))[:, None, None]
    counter[..., 2] = (rows >> np.uint64(32))[:, None, None]
    counter[..., 3] = purpose * 2**16 + np.arange(count)
    out = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return out.transpose(1, 3, 0, 2)[c0, output].swapaxes(0, 1)


# ---- Codes: section 1 ----


def intervals(bits, samples):
    """Number of intervals s (section 1)."""
    return (2**bits - 1) // samples


def random_bits(bits, samples):
    """Random bits a sample, R (section 1)."""
    return 16 if bits <= 4 and samples >= 2 else 24


def ups(p, bits, samples, seed, rows, rounding):
    """How many of the k samples go up, for positions p (rows, n) float32 in 0..1 (section 1)."""
    if rounding == "nearest":
        return (p >= np.float32(0.5)).astype(np.int64)
    R, features = random_bits(bits, samples), p.shape[1]
    if R == 24:
        u = words(seed, rows, features, ENCODE, samples) >> 8
    else:
        w = words(seed, rows, features, ENCODE, (samples + 1) // 2)
        u = np.stack([w & 0xFFFF, w >> 16], axis=-1).reshape(*p.shape, 2 * w.shape[2])[..., :samples]
    T = np.trunc(p * np.float32(2**R)).astype(np.uint32)
    return (u < T[..., None]).sum(axis=-1)


def encode_uniform(X, low, high, bits, samples, seed=0, row_offset=0, rounding="stochastic"):
    """Codes t = k*i + up of X (rows, n) on uniform levels low..high (n,), all float32: uint8 (rows, n) (section 1)."""
    X, low, s = np.asarray(X, np.float32), np.asarray(low, np.float32), intervals(bits, samples)
    width = np.asarray(high, np.float64) - low.astype(np.float64)
    inv = np.divide(s, width, out=np.zeros_like(width), where=width > 0).astype(np.float32)
    inv = np.where((np.asarray(high, np.float32) - low) * inv < s, np.nextafter(inv, np.float32(np.inf)), inv)
    inv[width == 0] = 0
    v = (X - low) * inv
    i = np.minimum(np.trunc(v), np.float32(s - 1))
    p = np.minimum(v - i, np.float32(1))
    up = ups(p, bits, samples, seed, row_numbers(len(X), row_offset), rounding)
    return (samples * i.astype(np.int64) + up).astype(np.uint8)


def encode_table(X, levels, bits, samples, seed=0, row_offset=0, rounding="stochastic"):
    """Codes t = k*i + up of X (rows, n) float32 on table levels (n, s+1) float32: uint8 (rows, n) (section 1)."""
    X, levels, s = np.asarray(X, np.float32), np.asarray(levels, np.float32), intervals(bits, samples)
    i = ((levels[:, 1:s] <= X[:, :, None]) & (levels[:, 1:s] < levels[:, s:])).sum(axis=-1)
    feature = np.arange(X.shape[1])
    width = np.diff(levels.astype(np.float64), axis=1)
    inv = np.divide(1, width, out=np.zeros_like(width), where=width > 0).astype(np.float32)
    inv = np.where((np.diff(levels, axis=1) * inv < 1) & (width > 0), np.nextafter(inv, np.float32(np.inf)), inv)
    p = np.minimum((X - levels[feature, i]) * inv[feature, i], np.float32(1))
    up = ups(p, bits, samples, seed, row_numbers(len(X), row_offset), rounding)
    return (samples * i + up).astype(np.uint8)


def decode_uniform(codes, low, high, bits, samples):
    """Mean of the samples, lo + t * step, of codes (rows, n) on uniform levels: float32 (section 1)."""
    low, high, top = np.asarray(low, np.float32), np.asarray(high, np.float32), intervals(bits, samples) * samples
    step = ((high.astype(np.float64) - low.astype(np.float64)) / top).astype(np.float32)
    return np.where(codes == top, high, low + codes.astype(np.float32) * step)


def decode_table(codes, levels, bits, samples):
    """Mean of the samples, L[i] + up/k * (L[i+1] - L[i]), of codes (rows, n) on table levels: float32 (section 1)."""
    levels, s, feature = np.asarray(levels, np.float64), intervals(bits, samples), np.arange(codes.shape[1])
    i, up = np.divmod(np.asarray(codes, np.int64), samples)
    below, above = levels[feature, i], levels[feature, np.minimum(i + 1, s)]
    return (below + up / np.float64(samples) * (above - below)).astype(np.float32)


def uniform_levels(low, high, bits, samples):
    """Levels L[i] = m(k*i) of uniform features: float32 (n, s+1) (section 1)."""
    t = samples * np.arange(intervals(bits, samples) + 1)
    return decode_uniform(np.repeat(t[:, None], len(low), axis=1), low, high, bits, samples).T


def draw_ups(codes, samples, seed, rows):
    """Which of the k samples of codes (rows, n) are at the upper level: bool (k, rows, n) (section 2, draw)."""
    w = words(seed, rows, codes.shape[1], DRAW, samples).astype(np.uint64)
    left, drawn = (codes % samples).astype(np.int64), []
    for j in range(samples):
        x = (w[..., j] * np.uint64(samples - j)) >> np.uint64(32)
        drawn.append(x.astype(np.int64) < left)
        left = left - drawn[-1]
    return np.array(drawn)


def draw_table(codes, levels, bits, samples, seed=0, row_offset=0):
    """The k separate samples of codes (rows, n) on table levels: float32 (k, rows, n) (section 2, draw)."""
    up = draw_ups(codes, samples, seed, row_numbers(len(codes), row_offset))
    return np.asarray(levels, np.float32)[np.arange(codes.shape[1]), codes // samples + up]


def draw_uniform(codes, low, high, bits, samples, seed=0, row_offset=0):
    """The k separate samples of codes (rows, n) on uniform levels: float32 (k, rows, n) (section 2, draw)."""
    return draw_table(codes, uniform_levels(low, high, bits, samples), bits, samples, seed, row_offset)


# ---- Rows in bytes: section 3 ----


def stride(features, bits):
    """Bytes from one row to the next (section 3)."""
    size = -(-features * bits // 8)
    line = 64 * -(-size // 64)
    return line if 8 * (line - size) <= line else size


row_stride = stride  # for pack, whose parameter hides the function


def pack(codes, bits, stride=None):
    """Codes (rows, n) uint8 -> bytes (rows, stride), lowest bits first (section 3)."""
    rows, features = codes.shape
    stream = np.unpackbits(codes[..., None], axis=-1, bitorder="little")[..., :bits].reshape(rows, features * bits)
    used = np.packbits(stream, axis=-1, bitorder="little")
    out = np.zeros((rows, row_stride(features, bits) if stride is None else stride), np.uint8)
    out[:, : used.shape[1]] = used
    return out


def unpack(packed, features, bits):
    """Bytes (rows, stride) -> codes (rows, features) uint8 (section 3)."""
    stream = np.unpackbits(packed, axis=-1, bitorder="little")[:, : features * bits]
    return np.packbits(stream.reshape(-1, features, bits), axis=-1, bitorder="little")[..., 0]


def weave(codes, bits, rows=None):
    """Codes (r, n) -> bit planes uint8 (bits, rows or r, bytes), most significant first: a bit a code, each a row of `pack`."""
    planes = np.zeros((bits, len(codes) if rows is None else rows, row_stride(codes.shape[1], 1)), np.uint8)
    for k in range(bits):
        planes[k, : len(codes)] = pack(codes >> (bits - 1 - k) & 1, 1)
    return planes


def unweave(planes, features, precision):
    """The upper `precision` bits of each code, from so many bit planes: uint8 (rows, n)."""
    weights = 1 << np.arange(precision)[::-1]
    return np.tensordot(weights, [unpack(plane, features, 1) for plane in planes[:precision]], 1).astype(np.uint8)


def dither(rows, features, spread, seed, first):
    """What is added to each code: uint8 (rows, features), below 2^spread (section 7)."""
    out, bits = np.zeros((rows, features), np.uint8), np.arange(features)[:, None] >> np.arange(31) & 1
    for r in range(rows):
        counters = [[half, (first + r) & 0xFFFFFFFF, (first + r) >> 32, 7 << 16] for half in (0, 1)]
        y = philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32)).astype("<u4").reshape(-1).view(np.uint8)
        out[r] = y[0] ^ np.bitwise_xor.reduce(bits.astype(np.uint8) * y[1:], axis=1)
    return out >> (8 - spread)


def counts(codes, bits):
    """How often each code of a feature occurs: uint64 (n, 2^bits)."""
    return np.stack([np.bincount(column, minlength=2**bits) for column in codes.T]).astype(np.uint64)


# ---- Levels: choose them to minimise sum w (u - x)(x - l) ----


def interval_cost(x, low, high, weights=None, exact=False):
    """Sum of w (high - x)(x - low) by direct summation in float64, or in fractions where exact."""
    if exact:
        w = [1] * len(x) if weights is None else [Fraction(float(value)) for value in weights]
        low, high, x = Fraction(float(low)), Fraction(float(high)), [Fraction(float(value)) for value in x]
        return sum((v * (high - a) * (a - low) for v, a in zip(w, x, strict=True)), Fraction(0))
    x = np.asarray(x, np.float64)
    return float(np.sum((1.0 if weights is None else np.asarray(weights, np.float64)) * (high - x) * (x - low)))


def levels_cost(x, levels, weights=None, exact=False):
    """Sum of w (u - x)(x - l) with [l, u] the two of `levels` (ascending float64) that enclose x."""
    x, levels = np.asarray(x, np.float64), np.unique(np.asarray(levels, np.float64))
    if x.size and not levels[0] <= x.min() <= x.max() <= levels[-1]:
        raise ValueError("levels do not enclose every value")
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    cell = np.minimum(np.searchsorted(levels, x, side="right") - 1, max(len(levels) - 2, 0))
    return sum(
        interval_cost(x[cell == i], levels[i], levels[i + 1], weights[cell == i], exact) for i in range(len(levels) - 1)
    )


def distinct(x, weights=None):
    """Distinct values ascending, and their summed weights: float64."""
    x, inverse = np.unique(np.asarray(x, np.float64), return_inverse=True)
    return x, np.bincount(inverse, weights, minlength=len(x)).astype(np.float64)


def brute_force_levels(x, intervals):
    """Best levels (at most intervals + 1, ends included) among the distinct values of x, by trying every subset."""
    points, _ = distinct(x)
    inner = min(intervals - 1, max(len(points) - 2, 0))
    choices = (np.array([points[0], *middle, points[-1]]) for middle in combinations(points[1:-1], inner))
    return np.unique(min(choices, key=lambda levels: levels_cost(x, levels)))


def candidate_costs(x, weights, candidates):
    """V[k, j], the cost of interval candidates[k]..candidates[j] with x between them; infinite where j < k."""
    x, candidates = (np.asarray(v, np.longdouble) - np.median(x) for v in (x, candidates))
    before = np.searchsorted(x, candidates, side="right")  # a value on a candidate costs nothing on either side
    W, S, Q = (np.append(0, np.cumsum(weights * x**power))[before] for power in range(3))
    k, j = np.ogrid[: len(candidates), : len(candidates)]
    a, c = candidates[:, None], candidates[None, :]
    V = (a + c) * (S[j] - S[k]) - a * c * (W[j] - W[k]) - (Q[j] - Q[k])
    return np.where(j >= k, V, np.inf)


def shortest_path(V, s):
    """Indices 0 .. last of a cheapest path of at most s steps through the cost matrix V, by dynamic programming."""
    best, previous = V[0], []
    for _ in range(s - 1):
        total = best[:, None] + V
        previous.append(total.argmin(axis=0))
        best = total.min(axis=0)
    path = [len(V) - 1]
    for layer in reversed(previous):
        path.append(layer[path[-1]])
    return np.unique([0, *path])


def dp_levels(x, s, weights=None):
    """Exact best levels (at most s + 1) among the values of x by dynamic programming, O(s N^2) time (ZipML's)."""
    points, weights = distinct(x, weights)
    return points[shortest_path(candidate_costs(points, weights, points), s)]


def grid_levels(x, steps, s, weights=None):
    """Exact best levels (at most s + 1) on the grid lo + g * (hi - lo) / steps, g = 0..steps."""
    points, weights = distinct(x, weights)
    low, high = points[[0, -1]]
    grid = np.unique(np.append(low + np.arange(steps) * (high - low) / steps, high))
    return grid[shortest_path(candidate_costs(points, weights, grid), s)]


def divide_and_conquer_levels(x, s, weights=None):
    """Exact best levels (at most s + 1), O(s N log N) time: V obeys the quadrangle inequality, so argmins ascend."""
    points, weights = distinct(x, weights)
    N, centred = len(points), points.astype(np.longdouble) - np.median(points)
    W, S, Q = (np.append(0, np.cumsum(weights * centred**power)) for power in range(3))  # before each point: an end adds nothing

    def cost(k, j):
        a, c, after = centred[k], centred[j], np.minimum(k + 1, j)
        return (a + c) * (S[j] - S[after]) - a * c * (W[j] - W[after]) - (Q[j] - Q[after])

    best, previous = cost(np.zeros(N, np.intp), np.arange(N)), []
    for _ in range(s - 1):
        total, choice = np.empty_like(best), np.empty(N, np.intp)
        pending = np.array([[0, N, 0, N - 1]])  # columns first..last-1 have their argmin in lowest..highest
        while len(pending):  # all the halves of one depth at once
            first, last, lowest, highest = pending.T
            j = (first + last) // 2
            count = np.minimum(highest, j) - lowest + 1
            starts = np.cumsum(count) - count
            k = np.repeat(lowest - starts, count) + np.arange(count.sum())
            values = best[k] + cost(k, np.repeat(j, count))
            total[j] = np.minimum.reduceat(values, starts)
            hits = np.flatnonzero(values == np.repeat(total[j], count))
            choice[j] = k[hits[np.searchsorted(hits, starts)]]
            left, right = np.stack([first, j, lowest, choice[j]], 1), np.stack([j + 1, last, choice[j], highest], 1)
            pending = np.concatenate([left, right])
            pending = pending[pending[:, 0] < pending[:, 1]]
        best = total
        previous.append(choice)
    path = [N - 1]
    for layer in reversed(previous):
        path.append(layer[path[-1]])
    return points[np.unique([0, *path])]


# ---- Sketch of a column: section 5 ----


def sketch_units(x, features=None):
    """Pivot c (float32) and exponent g of the unit from the first rows of a column, or of all columns where shared."""
    x = np.asarray(x, np.float32).reshape(len(x), -1)
    rows = max(64, min(1024, 2**23 // (4 * (features or x.shape[1])) // 64 * 64))
    v = np.sort(x[:rows].ravel())
    c, m = v[len(v) // 2], len(v)
    w = 2 * (np.float64(v[3 * m // 4]) - np.float64(v[m // 4]))
    if w == 0:
        d = np.sort(np.abs(v.astype(np.float64) - np.float64(c)))
        d = d[d > 0]
        w = 4 * d[len(d) // 2] if len(d) else abs(np.float64(c)) / 1024 or 1.0
    return c, int(np.clip(np.floor(np.log2(w)) + 1, -126, 126))


def sketch_keys(a, c, g):
    """Keys of values: int64."""
    with np.errstate(over="ignore"):
        d = (np.asarray(a, np.float32) - np.float32(c)) * np.float32(2.0**-g) + np.float32(0)
    z = (np.abs(d) + np.float32(1)).view(np.uint32).astype(np.int64) - 0x3F800000
    return np.where(d < 0, -1 - z, z)


def sketch_position(key, c, g):
    """The value at a key, whole or not: float64."""
    j = np.where(key < 0, -1 - key, key).astype(np.float64)
    o = np.floor(j / 2**23)
    distance = (1 + j / 2**23 - o) * 2**o - 1
    return np.float64(c) + np.where(key < 0, -distance, distance) * 2.0**g


def sketch_cells(features):
    """Cells of a feature."""
    return max(64, min(2048, 2 ** int(np.log2(2**28 / (24 * features)))))


def sketch(x, c, g, cells):
    """Cells of one column: e, first, and number, sum of places, least and greatest place of each cell; -1 where it is empty."""
    keys, e = sketch_keys(x, c, g), 0
    low, high = int(keys.min()), int(keys.max())
    while (high >> e) - (low >> e) >= cells:
        e += 1
    first = low >> e
    cell, place = (keys >> e) - first, keys % 2**e
    count = np.bincount(cell, minlength=cells)
    total = [sum(int(p) for p in place[cell == i]) for i in range(cells)]
    least, most = np.full(cells, -1), np.full(cells, -1)
    for i in np.flatnonzero(count):
        least[i], most[i] = place[cell == i].min(), place[cell == i].max()
    return e, first, count, np.array(total, np.uint64), least, most


# ---- Gradients of mean((a.x - b)^2) / 2: one row (n,) or the mean over a matrix (rows, n) ----


def naive(mean, x, target):
    """Mean over rows of m (m.x - b), m the mean of a row's samples: biased by Var(m) x."""
    return double_sampling(mean, mean, x, target)


def double_sampling(first, second, x, target):
    """Mean over rows of Q1 (Q2.x - b), Q1 and Q2 independent samples of the same rows (ZipML, section 2)."""
    first, second = np.atleast_2d(first).astype(np.float64), np.atleast_2d(second).astype(np.float64)
    return first.T @ (second @ x - target) / len(first)


def collapse(codes, width, samples):
    """E[Q1 Q2 | t] - m^2 = -width^2 up (k - up) / (k^2 (k - 1)) of codes; width = L[i+1] - L[i], k >= 2."""
    up = np.asarray(codes, np.int64) % samples
    return -np.square(width, dtype=np.float64) * up * (samples - up) / (samples**2 * (samples - 1))


def collapsed(mean, correction, x, target):
    """Mean over rows of m (m.x - b) + c x with c = collapse(...): double sampling averaged over its draws."""
    return naive(mean, x, target) + np.atleast_2d(correction).mean(axis=0) * x


def diagonal(mean, noise, x, target):
    """Mean over rows of m (m.x - b), less D x, with noise = D (n,), the mean over rows of (u - a)(a - l) / k."""
    return naive(mean, x, target) - noise * x


def normal_equations(X, y, strength, correction=None):
    """Minimiser (coef, intercept), in raw units, of mean((z.x + b0 - y)^2)/2 + strength ||x||^2/2, z standardised X.

    `correction` (n,), c times D in raw units, is subtracted from the Hessian's diagonal; a constant column gets 0.
    """
    X, y = np.asarray(X, np.float64), np.asarray(y, np.float64)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    varies = np.ptp(X, axis=0) > 0
    Z = (X - mean)[:, varies] / scale[varies]
    noise = np.zeros(len(mean)) if correction is None else np.asarray(correction, np.float64)
    hessian = Z.T @ Z / len(Z) + np.diag(strength - noise[varies] / scale[varies] ** 2)
    coef = np.zeros(len(mean))
    coef[varies] = np.linalg.solve(hessian, Z.T @ (y - y.mean()) / len(Z)) / scale[varies]
    return coef, y.mean() - mean @ coef


# ---- Integer training: section 5 ----


def rounded_integers(v, levels, seed, purpose, number):
    """Integers of Q(v), -levels..levels, and M: v float32 (n,) (section 5, model rounding)."""
    chance = (words(seed, [number], len(v), purpose, 1)[0, :, 0] >> 8).astype(np.float32) / np.float32(2**24)
    largest = np.abs(v).max()
    x = np.abs(v) / (largest if largest > 0 else np.float32(1)) * np.float32(levels)
    i = np.floor(x)
    return (np.where(v < 0, -1, 1) * (i + (chance < x - i))).astype(np.int64), largest


def lane_sum(p):
    """Float32 sum in the order of section 5: 16 lanes over blocks of 64, then the lanes."""
    p, v = np.pad(p, (0, -len(p) % 64)).reshape(-1, 4, 16), np.zeros(16, np.float32)
    for block in p:
        v = v + ((block[0] + block[1]) + (block[2] + block[3]))
    for half in (8, 4, 2, 1):
        v = v[:half] + v[half : 2 * half]
    return v[0]


def slab_rows(features, bits, batch):
    """Rows that share one scale of residuals (section 5)."""
    rows = 128
    while rows > 16 and (4 * rows > batch or rows * -(-features * bits // 8) > 262144):
        rows //= 2
    return rows


def eight_sums(e):
    """Float64 sum of a slab's residuals in the order of section 5."""
    s = [0.0] * 8
    for r, value in enumerate(e.astype(np.float64).tolist()):
        s[r % 8] += value
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))


def exp_minus(a):
    """exp(-a) of float32 a >= 0 (section 5): Taylor's series about the nearest multiple of ln 2; 0 beyond 87."""
    inside = a <= 87
    a = np.where(inside, a, np.float32(0))
    n = np.floor(a * np.float32(float.fromhex("0x1.715476p+0")) + np.float32(0.5))
    high, low = (np.float32(float.fromhex(part)) for part in ("0x1.62e4p-1", "0x1.7f7d1cp-20"))
    r = n * low - (a - n * high)
    p = np.full_like(r, 1 / 5040)
    for divisor in (720, 120, 24, 6, 2, 1, 1):
        p = p * r + np.float32(1) / np.float32(divisor)
    return np.where(inside, p * np.ldexp(np.float32(1), -n.astype(int)), np.float32(0))


def log_one_plus(t):
    """log(1 + t) of float32 0 <= t <= 1 (section 5): 2 artanh(t / (2 + t)) by its series."""
    s = t / (t + np.float32(2))
    p = np.full_like(s, 1 / 15)
    for divisor in (13, 11, 9, 7, 5, 3, 1):
        p = p * (s * s) + np.float32(1) / np.float32(divisor)
    return (s + s) * p


def row_losses(loss, z, y, weight):
    """Slopes (float32) and values (float64) of rows (section 5), weighted: loss "squared", "logistic" or "hinge"."""
    zero, one, margin = np.float32(0), np.float32(1), y * z
    if loss == "squared":
        slope = z - y
        value = slope.astype(np.float64) ** 2 / 2
    elif loss == "logistic":
        t = exp_minus(np.abs(margin))
        slope = -y * (np.where(margin >= 0, t, one) / (one + t))
        value = np.maximum(zero, -margin) + log_one_plus(t)
    else:
        slope = np.where(margin >= one, zero, -y)
        value = np.maximum(zero, one - margin)
    return slope * weight, weight.astype(np.float64) * value.astype(np.float64)


def proximal_step(x, eta, shrink=None, ridge=None, low=None, high=None):
    """The coefficients after a step of size eta (section 5): all float32."""
    if shrink is not None:
        left = np.maximum(np.float32(0), np.abs(x) - eta * shrink)
        x = np.where(x >= 0, left, np.float32(0) - left)
    if ridge is not None:
        x = x / (np.float32(1) + eta * ridge)
    if low is not None:
        x = np.maximum(low, x)
    return x if high is None else np.minimum(high, x)


def integer_sgd(
    u, y, low, step, order, steps, batch, bits, curvature, model_bits, residual_bits, gradient_bits, seed, x, bias, first,
    loss="squared", weights=None, proximal=(),
):  # fmt: skip
    """Integer training (section 5): u (rows, n) integers, everything else float32; x, bias and step number to start from.

    Returns weights, bias, the last rounded model and gradient, and the sum of the loss.
    """
    level_count = {4: 7, 8: 127, 16: 32639}
    float32 = np.float32
    u, x, bias = np.asarray(u, np.int64), x.astype(np.float32), float32(bias)
    inverse = np.where(step != 0, 1 / np.where(step != 0, step, 1).astype(np.float64), 0).astype(np.float32)
    weights = np.ones(len(y), np.float32) if weights is None else weights
    total, slab, number, model, g = 0.0, slab_rows(u.shape[1], bits, batch), first, x, x
    for start in range(0, len(order), batch):
        rows, eta = order[start : start + batch], float32(steps[start // batch])
        B, b = level_count[model_bits], level_count[residual_bits]
        q, M = rounded_integers(x * step, B, seed, MODEL, 2 * number)
        scale = (M if M > 0 else float32(1)) / float32(B)
        model = q.astype(np.float32) * scale * inverse
        base = bias + lane_sum(low * model)
        e, lost = row_losses(loss, base + scale * (u[rows] @ q).astype(np.float32), y[rows], weights[rows])
        total += lost.sum()
        G, R, slope = np.zeros(len(x), np.float32), float32(0), 0.0
        for at in range(0, len(rows), slab):
            part = e[at : at + slab]
            position = np.zeros(at + len(part), np.float32)
            position[at:] = part
            k, E = rounded_integers(position, b, seed, RESIDUAL, number)
            s = E / float32(b)
            G = G + s * (k[at:] @ u[rows[at : at + slab]]).astype(np.float32)
            R = R + s * float32(k[at:].sum())
            slope += eight_sums(part)
        g = (step * G + low * R) * (float32(1) / float32(len(rows))) + curvature * model
        if gradient_bits < 32:
            B = 2 ** (gradient_bits - 1) - 1
            k, E = rounded_integers(g, B, seed, MODEL, 2 * number + 1)
            g = k.astype(np.float32) * (E / float32(B))
        x = proximal_step(x - eta * g, eta, *proximal)
        bias = bias - eta * float32(slope / len(rows))
        number += 1
    return x, bias, model, g, total


# ---- Images of the FPGA designs: docs/fpga.md ----


def from_bits(bits):
    """Bytes of rows of bits, the lowest first."""
    return np.packbits(bits, axis=-1, bitorder="little")


def put_bits(bits, start, values, width):
    """Into rows of bits, `width` bits of each row's value, two's complement, from bit `start` on."""
    for j in range(width):
        bits[:, start + j] = np.asarray(values, np.int64) >> j & 1


def harp_rows(first, second, labels, Q):
    """Rows of harp: samples (rows, n) as integers, two's complement where below 0; labels int32 (rows,)."""
    rows, n = first.shape
    per_line = 256 // Q
    bits = np.zeros((rows, -(-n // per_line) * 512), bool)
    for f in range(n):
        at = f // per_line * 512 + f % per_line * 2 * Q
        put_bits(bits, at, first[:, f], Q)
        put_bits(bits, at + Q, second[:, f], Q)
    assert not bits[:, -32:].any()
    put_bits(bits, bits.shape[1] - 32, labels, 32)
    return from_bits(bits)


def pynq_rows(codes, labels, Q):
    """Rows of pynq: codes (rows, n) as integers; labels float32 (rows,)."""
    rows, n = codes.shape
    bits = np.zeros((rows, (-(-n * Q // 64) + 1) * 64), bool)
    for f in range(n):
        put_bits(bits, f * Q, codes[:, f], Q)
    put_bits(bits, bits.shape[1] - 64, np.asarray(labels, np.float32).view(np.uint32), 32)
    return from_bits(bits)


def mlweaving_lines(values):
    """Lines of mlweaving, uint8 (lines, 64): values uint32 (rows, n); rows that fill up the last 8 are zeros."""
    rows, n = values.shape
    chunks = -(-n // 64)
    bits = np.zeros((-(-rows // 8) * chunks * 32, 512), bool)
    for row in range(rows):
        for feature in range(n):
            first = (row // 8 * chunks + feature // 64) * 32
            for k in range(32):
                bits[first + k, 64 * (row % 8) + feature % 64] = int(values[row, feature]) >> (31 - k) & 1
    return from_bits(bits)


# ---- SGD as the boards compute it: docs/boards.md, in Python's integers ----


def register(value, bits=32):
    """What is left of an integer in two's complement of so many bits."""
    return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def harp_epoch(q1, q2, labels, one, shift, mask, x):
    """An epoch of HARP on levels of which `one` is 1.0: the model, and at how many rows a value did not fit its register."""
    x, later, wrapped = list(x), list(x), 0
    for row, (first, second, label) in enumerate(zip(q1.tolist(), q2.tolist(), labels.tolist(), strict=True)):
        dot = sum(q * w // one for q, w in zip(first, x, strict=True))
        error = register(dot) - label
        g = register(error) // 2**shift
        updated = [w - q * g // one for q, w in zip(second, later, strict=True)]
        later = [register(w) for w in updated]
        wrapped += register(dot) != dot or register(error) != error or later != updated
        if row & mask == mask or row == len(labels) - 1:
            x = list(later)
    return x, wrapped


def pynq_epoch(q, labels, one, shift, mask, x, later):
    """An epoch of PYNQ: the model that products read, that of the updates, and at how many rows a value did not fit."""
    x, later, wrapped = list(x), list(later), 0
    for row, (levels, label) in enumerate(zip(q.tolist(), labels.astype(np.float32), strict=True)):
        dot = sum(level * w // one for level, w in zip(levels, x, strict=True))
        error = np.float32(register(dot)) / np.float32(2**23) - label
        step = Fraction(float(error * np.float32(2.0**-shift))) * 2**23
        size = int(abs(step))  # truncated
        g = register(-size if step < 0 else size)
        updated = [w - level * g // one for level, w in zip(levels, later, strict=True)]
        later = [register(w) for w in updated]
        wrapped += register(dot) != dot or size >= 2**31 or later != updated
        if row & mask == mask:
            x = list(later)
    return x, later, wrapped


def planes_sum(sums):
    """What MLWeaving makes of the sums of planes, the most significant first, of each of several chunks; whether all fitted."""
    total, fitted = 11, True
    for chunk in sums:
        for k, t in enumerate(chunk):
            part = 16 * register(t) // 2 ** (k + 1)
            total += 0 if part == -1 else part
            fitted &= register(t) == t
    return register(total, 36) // 16, fitted and register(total, 36) == total


def mlweaving_epoch(v, labels, planes, shift, batch, x, later):
    """An epoch of MLWeaving on uint32 (rows, chunks of 64): as pynq_epoch, but that groups of 8 rows are counted."""
    x, later, wrapped = list(x), list(later), 0
    bit = [[[int(a) >> (31 - k) & 1 for k in range(planes)] for a in row] for row in v]
    for group in range(0, len(v), 8):
        rows, errors, fitted = bit[group : group + 8], [], True
        for row, label in zip(rows, labels[group : group + 8].tolist(), strict=True):
            chunks = [range(first, first + 64) for first in range(0, len(x), 64)]
            sums = [[sum(row[m][k] * x[m] for m in chunk) for k in range(planes)] for chunk in chunks]
            dot, whole = planes_sum(sums)
            fitted &= whole and register(dot - label) == dot - label
            errors.append(register(dot - label) // 2**shift)
        for m in range(len(x)):
            change, whole = planes_sum([[sum(row[m][k] * e for row, e in zip(rows, errors, strict=True)) for k in range(planes)]])
            fitted &= whole and register(later[m] - change) == later[m] - change
            later[m] = register(later[m] - change)
        wrapped += not fitted
        if (group + 8) % batch == 0:
            x = list(later)
    return x, later, wrapped
