"""Mini-batch SGD in integers from packed codes: thin wrapper of integer_steps.c. Arguments are checked by zipml_codec.sgd."""

import numpy as np

from libc.stdint cimport uint8_t, uint64_t, uintptr_t

from . import simd

include "loss.pxi"

cdef extern from "codes.h" nogil:
    ctypedef struct code_shape:
        size_t features, stride
        int bits, samples, intervals

cdef extern from "integer_steps.h" nogil:
    ctypedef struct integer_rows:
        code_shape shape
        const uint8_t *packed
        const float *low
        const float *step
        const float *inverse_step
        const uint8_t *table
        size_t pitch
        const float *labels
        const float *row_weights
    ctypedef struct integer_model:
        float *weights
        float *rounded
        float *gradient
        float bias
        const float *curvature
        const float *noise
        proximal prox
        int loss, model_bits, residual_bits, gradient_levels
        uint64_t step_number, seed
    ctypedef struct integer_result:
        double loss, noise
        int finite
    integer_result integer_run(const integer_rows *rows, integer_model *model, const size_t *order, size_t count, size_t batch,
                               const float *steps, void *room, int level, int threads)
    size_t integer_room(const integer_rows *rows, size_t count, size_t batch, int level, int threads)
    size_t integer_padded(size_t features)
    size_t integer_slab(const code_shape *shape, size_t batch)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()


def slab_rows(size_t features, int bits, size_t batch):
    """Rows of a batch that share one scale of their residuals."""
    cdef code_shape shape = code_shape(features, 0, bits, 1, 1)
    return integer_slab(&shape, batch)


def aligned_empty(shape, dtype):
    """An array that begins at a cache line, as large ones of NumPy's do not: where rows are whole lines, every read is then one line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    bytes_ = np.empty(size + 63, np.uint8)
    start = -bytes_.ctypes.data % 64
    return bytes_[start : start + size].view(dtype).reshape(shape)


cdef class IntegerRows:
    """A buffer of packed rows with what turns codes into standardised values, low + step * u; keeps the arrays alive."""

    cdef integer_rows rows
    cdef object kept
    cdef readonly Py_ssize_t count

    def __init__(self, size_t features, int bits, int samples, size_t stride, low, step, table=None):
        """low, step: float32 (features,); table: uint8 (features or 1, 2**bits), u of each code; None where u is the code."""
        cdef size_t padded = integer_padded(features)
        cdef float[::1] vector
        cdef const uint8_t[:, ::1] entries
        if not (1 <= bits <= 8 and features >= 1):
            raise ValueError(f"{features} features of {bits} bits: there must be at least one, of 1 to 8 bits")
        vectors = np.zeros((3, padded), np.float32)
        vectors[0, :features], vectors[1, :features] = low, step
        with np.errstate(divide="ignore"):
            vectors[2] = np.where(vectors[1] != 0, 1 / vectors[1].astype(np.float64), 0)
        self.kept = [vectors, table, None, None, None]
        self.rows.shape = code_shape(features, stride, bits, samples, ((1 << bits) - 1) // samples)
        vector = vectors[0]
        self.rows.low = &vector[0]
        vector = vectors[1]
        self.rows.step = &vector[0]
        vector = vectors[2]
        self.rows.inverse_step = &vector[0]
        if table is not None:
            entries = table
            if entries.shape[1] != 1 << bits or entries.shape[0] not in (1, features):
                raise ValueError(f"table of shape {table.shape}: it must be {features} or 1 by {1 << bits}")
            self.rows.table = &entries[0, 0]
            self.rows.pitch = 0 if entries.shape[0] == 1 and features > 1 else entries.shape[1]

    def hold(self, data, labels, weights=None):
        """Point at packed rows uint8 (rows, stride), their labels float32 (rows,), and their weights, alike, where not 1 each."""
        cdef const uint8_t[:, ::1] packed = data
        cdef const float[::1] label = labels
        if label.shape[0] != packed.shape[0] or <size_t>packed.shape[1] != self.rows.shape.stride:
            raise ValueError(f"rows of shape {data.shape} with {len(labels)} labels; a row has {self.rows.shape.stride} bytes")
        self.rows.row_weights = row_weights(weights, packed.shape[0])
        self.kept[2:] = [data, labels, weights]
        self.count = packed.shape[0]
        self.rows.packed, self.rows.labels = NULL, NULL
        if self.count:
            self.rows.packed, self.rows.labels = &packed[0, 0], &label[0]


cdef class IntegerState:
    """A model on its way: float32 vectors padded to whole blocks of 512 features."""

    cdef integer_model model
    cdef readonly object weights, curvature, noise
    cdef object kept, room
    cdef size_t features, batch

    def __init__(self, size_t features, size_t batch, curvature, noise=None, int model_bits=8, int gradient_bits=32,
                 int residual_bits=8, uint64_t seed=0, int loss=0, proximal=None):
        cdef size_t padded = integer_padded(features)
        cdef float[::1] weights, curve, rounded, gradient, noisy
        if model_bits not in (4, 8, 16) or residual_bits not in (4, 8, 16) or gradient_bits not in (4, 8, 16, 32):
            raise ValueError(f"model of {model_bits}, residual of {residual_bits}, gradient of {gradient_bits} bits: 4, 8 or 16")
        self.features, self.batch = features, batch
        self.weights = np.zeros(padded, np.float32)
        self.curvature = np.zeros(padded, np.float32)
        self.curvature[:features] = curvature
        self.kept = (np.zeros(padded, np.float32), np.zeros(padded, np.float32))
        weights, curve, rounded, gradient = self.weights, self.curvature, self.kept[0], self.kept[1]
        self.model.weights, self.model.curvature = &weights[0], &curve[0]
        self.model.rounded, self.model.gradient = &rounded[0], &gradient[0]
        if noise is not None:
            self.noise = np.zeros(padded, np.float32)
            self.noise[:features] = noise
            noisy = self.noise
            self.model.noise = &noisy[0]
        self.model.model_bits, self.model.residual_bits = model_bits, residual_bits
        self.model.gradient_levels = 0 if gradient_bits == 32 else (1 << (gradient_bits - 1)) - 1
        self.model.seed, self.model.loss = seed, known_loss(loss)
        self.kept += (hold_proximal(&self.model.prox, proximal, features, padded),)
        self.room = np.empty(0, np.uint8)

    @property
    def bias(self):
        return self.model.bias

    @bias.setter
    def bias(self, float value):
        self.model.bias = value

    @property
    def steps(self):
        """Steps taken so far."""
        return self.model.step_number

    @steps.setter
    def steps(self, uint64_t value):
        self.model.step_number = value

    @property
    def rounded(self):
        """The model that the last step's rows met."""
        return self.kept[0][: self.features].copy()

    @property
    def gradient(self):
        """The last step's gradient."""
        return self.kept[1][: self.features].copy()

    def run(self, IntegerRows rows, const size_t[::1] order, const float[::1] steps, int threads):
        """Steps of `batch` rows over order[...]: (sum of the loss, sum of x'Dx / 2, both weighted, finite)."""
        cdef integer_result result
        cdef int level = simd.index()
        cdef size_t count = order.shape[0], needed = (count + self.batch - 1) // self.batch, room
        cdef uint8_t[::1] bytes_
        cdef uint8_t *start
        if not count:
            return 0.0, 0.0, True
        if <size_t>steps.shape[0] < needed:
            raise ValueError(f"{needed} steps, {steps.shape[0]} step sizes")
        if rows.rows.shape.features != self.features:
            raise ValueError(f"rows of {rows.rows.shape.features} features for a model of {self.features}")
        room = integer_room(&rows.rows, count, self.batch, level, threads) + 63
        if <size_t>len(self.room) < room:
            self.room = np.zeros(room, np.uint8)
        bytes_ = self.room
        start = &bytes_[0] + (-<uintptr_t>&bytes_[0]) % 64
        with nogil:
            result = integer_run(&rows.rows, &self.model, &order[0], count, self.batch, &steps[0], start, level, threads)
        return result.loss, result.noise, bool(result.finite)


cdef extern from "dense.h" nogil:
    ctypedef struct dense_rows:
        const float *values
        const float *labels
        const float *row_weights
        const float *mean
        const float *scale
        size_t features
    ctypedef struct dense_model:
        float *weights
        float *folded
        const float *curvature
        float bias
        proximal prox
        int loss
    ctypedef struct dense_result:
        double loss
        int finite
    dense_result dense_run(const dense_rows *rows, dense_model *model, const size_t *order, size_t count, size_t batch, const float *steps,
                           void *room, int level, int threads)
    size_t dense_room(size_t features, size_t batch)


cdef class DenseState:
    """A float32 model trained on float32 rows as they lie in memory, (a - mean) * scale: what integer SGD is measured against."""

    cdef dense_rows rows
    cdef dense_model model
    cdef readonly object weights
    cdef public uint64_t steps
    cdef object kept, room
    cdef size_t batch

    def __init__(self, size_t features, size_t batch, curvature, mean, scale, int loss=0, proximal=None):
        vectors = np.zeros((4, (features + 63) // 64 * 64), np.float32)
        vectors[0, :features], vectors[1, :features], vectors[2, :features] = curvature, mean, scale
        self.weights = np.zeros(vectors.shape[1], np.float32)
        cdef float[:, ::1] parts = vectors
        cdef float[::1] weights = self.weights
        self.kept, self.batch = (vectors, hold_proximal(&self.model.prox, proximal, features, vectors.shape[1])), batch
        self.rows.features, self.rows.mean, self.rows.scale = features, &parts[1, 0], &parts[2, 0]
        self.model.weights, self.model.folded, self.model.curvature = &weights[0], &parts[3, 0], &parts[0, 0]
        self.model.loss = known_loss(loss)

    @property
    def bias(self):
        return self.model.bias

    @bias.setter
    def bias(self, float value):
        self.model.bias = value

    def run(self, const float[:, ::1] data, const float[::1] labels, const size_t[::1] order, const float[::1] steps, int threads,
            weights=None):
        """Steps of `batch` rows over order[...]: (sum of the loss, weighted, finite)."""
        cdef dense_result result
        cdef size_t count = order.shape[0]
        cdef int level = simd.index()
        if not count:
            return 0.0, True
        if <size_t>data.shape[1] != self.rows.features or labels.shape[0] != data.shape[0]:
            raise ValueError(f"rows of {data.shape[1]} features, {labels.shape[0]} labels for a model of {self.rows.features}")
        if <size_t>steps.shape[0] < (count + self.batch - 1) // self.batch:
            raise ValueError(f"{(count + self.batch - 1) // self.batch} steps, {steps.shape[0]} step sizes")
        room = np.zeros(dense_room(self.rows.features, min(count, self.batch)) + 63, np.uint8)
        cdef uint8_t[::1] bytes_ = room
        cdef uint8_t *start = &bytes_[0] + (-<uintptr_t>&bytes_[0]) % 64
        self.rows.values, self.rows.labels = &data[0, 0], &labels[0]
        self.rows.row_weights = row_weights(weights, data.shape[0])
        with nogil:
            result = dense_run(&self.rows, &self.model, &order[0], count, self.batch, &steps[0], start, level, threads)
        self.steps += (count + self.batch - 1) // self.batch
        return result.loss, bool(result.finite)
