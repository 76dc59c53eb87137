"""Mini-batch SGD from packed codes: thin wrapper of minibatch.c. Arguments are checked by zipml_codec.sgd."""

import numpy as np

from libc.stdint cimport uint8_t, uint64_t

from . import simd

include "loss.pxi"

cdef extern from "codes.h" nogil:
    ctypedef struct code_shape:
        size_t features, stride
        int bits, samples, intervals
    ctypedef struct code_values:
        const float *low
        const float *step
        const float *high
        const float *table
        size_t pitch
        int padded

cdef extern from "minibatch.h" nogil:
    int ESTIMATOR_MEAN, ESTIMATOR_COLLAPSED, ESTIMATOR_DOUBLE
    ctypedef struct sgd_rows:
        code_shape shape
        const uint8_t *packed
        code_values values
        const float *raw
        const float *mean
        const float *scale
        size_t pitch
        const float *labels
        const float *row_weights
        const uint64_t *numbers
        const float *correction
        size_t correction_pitch
        int estimator
        uint64_t draw_seed
    ctypedef struct sgd_model:
        float *weights
        float *rounded
        float *gradient
        float bias
        const float *curvature
        const float *noise
        proximal prox
        int loss
        int model_levels, gradient_levels
        uint64_t step_number, model_seed
    ctypedef struct sgd_result:
        double loss, noise
        int finite
    sgd_result sgd_run(const sgd_rows *rows, sgd_model *model, const size_t *order, size_t count, size_t batch, const float *steps,
                       float *room, int level, int threads)
    size_t sgd_room(size_t features, size_t batch)
    void sgd_predict(const sgd_rows *rows, const float *weights, float bias, const size_t *order, size_t count, float *out, float *room,
                     int level, int threads)
    void sgd_values(const sgd_rows *rows, size_t count, float *out, int level, int threads)
    void quantize_vector(const float *v, size_t n, int levels, float scale, uint64_t seed, uint64_t number, float *out)

cdef extern from "threads.h" nogil:
    void threads_init()

threads_init()

MEAN, COLLAPSED, DOUBLE = ESTIMATOR_MEAN, ESTIMATOR_COLLAPSED, ESTIMATOR_DOUBLE


cdef class Rows:
    """A buffer of rows, packed codes or float32, with what turns them into standardised values; keeps the arrays alive."""

    cdef sgd_rows rows
    cdef object kept
    cdef readonly Py_ssize_t count

    def __init__(self, size_t features, int bits=0, int samples=1, size_t stride=0, affine=None, table=None, mean=None, scale=None,
                 correction=None, int estimator=0, uint64_t draw_seed=0):
        """affine: (low, step, high), padded float32; table: float32 (n or 1, 2**bits); mean, scale: padded float32 for raw rows."""
        cdef const float[::1] vector
        cdef const float[:, ::1] matrix
        self.kept = [affine, table, mean, scale, correction, None, None, None, None]
        self.rows.shape = code_shape(features, stride, bits, samples, ((1 << bits) - 1) // samples)
        self.rows.estimator, self.rows.draw_seed = estimator, draw_seed
        if affine is not None:
            vector = affine[0]
            self.rows.values.low = &vector[0]
            vector = affine[1]
            self.rows.values.step = &vector[0]
            vector = affine[2]
            self.rows.values.high = &vector[0]
            self.rows.values.padded = 1
        if table is not None:
            matrix = table
            self.rows.values.table = &matrix[0, 0]
            self.rows.values.pitch = 0 if matrix.shape[0] == 1 and features > 1 else matrix.shape[1]
        if mean is not None:
            vector = mean
            self.rows.mean = &vector[0]
            vector = scale
            self.rows.scale = &vector[0]
        if correction is not None:
            matrix = correction
            self.rows.correction = &matrix[0, 0]
            self.rows.correction_pitch = 0 if matrix.shape[0] == 1 and features > 1 else matrix.shape[1]

    def hold(self, data, labels=None, numbers=None, weights=None):
        """Point at packed rows uint8 (rows, stride) or raw rows float32 (rows, n), labels float32, row numbers uint64, weights float32."""
        cdef const uint8_t[:, ::1] packed
        cdef const float[:, ::1] raw
        cdef const float[::1] label
        cdef const uint64_t[::1] number
        self.kept[5:] = [data, labels, numbers, weights]
        self.count = len(data)
        self.rows.packed, self.rows.raw, self.rows.labels, self.rows.numbers = NULL, NULL, NULL, NULL
        self.rows.row_weights = row_weights(weights, self.count)
        if not self.count:
            return
        if self.rows.shape.bits:
            packed = data
            self.rows.packed = &packed[0, 0]
        else:
            raw = data
            self.rows.raw = &raw[0, 0]
            self.rows.pitch = raw.shape[1]
        if labels is not None:
            label = labels
            self.rows.labels = &label[0]
        if numbers is not None:
            number = numbers
            self.rows.numbers = &number[0]

    def predict(self, const float[::1] weights, float bias, const size_t[::1] order, int threads):
        """bias + weights . row for each row of the buffer, or those that `order` names: float32."""
        cdef size_t count = self.count if order is None else order.shape[0]
        out = np.empty(count, np.float32)
        if not count:
            return out
        cdef float[::1] target = out
        cdef float[::1] room = np.zeros(sgd_room(self.rows.shape.features, 0) + 1, np.float32)
        cdef int estimator = self.rows.estimator, level = simd.index()
        self.rows.estimator = ESTIMATOR_MEAN
        with nogil:
            sgd_predict(&self.rows, &weights[0], bias, NULL if order is None else &order[0], count, &target[0], &room[0], level, threads)
        self.rows.estimator = estimator
        return out

    def values(self, int threads):
        """Standardised values of the rows: float32 (rows, n)."""
        cdef size_t features = self.rows.shape.features
        out = np.zeros((self.count, (features + 63) // 64 * 64), np.float32)
        cdef float[:, ::1] target = out
        cdef int level = simd.index(), estimator = self.rows.estimator
        self.rows.estimator = ESTIMATOR_MEAN
        if self.count:
            with nogil:
                sgd_values(&self.rows, self.count, &target[0, 0], level, threads)
        self.rows.estimator = estimator
        return out[:, :features]


cdef class State:
    """A model on its way: float32 vectors padded to whole blocks of 64 features."""

    cdef sgd_model model
    cdef readonly object weights, curvature, noise
    cdef object kept, room
    cdef size_t features, batch

    def __init__(self, size_t features, size_t batch, curvature, noise=None, int model_bits=32, int gradient_bits=32, uint64_t seed=0,
                 int loss=0, proximal=None):
        cdef size_t padded = (features + 63) // 64 * 64
        self.features, self.batch = features, batch
        self.weights = np.zeros(padded, np.float32)
        self.curvature = np.zeros(padded, np.float32)
        self.curvature[:features] = curvature
        self.kept = (np.zeros(padded, np.float32), np.zeros(padded, np.float32))
        self.room = np.zeros(sgd_room(features, batch), np.float32)
        cdef float[::1] weights = self.weights, curve = self.curvature, rounded = self.kept[0], gradient = self.kept[1], noisy
        self.model.weights, self.model.curvature = &weights[0], &curve[0]
        self.model.rounded, self.model.gradient = &rounded[0], &gradient[0]
        if noise is not None:
            self.noise = np.zeros(padded, np.float32)
            self.noise[:features] = noise
            noisy = self.noise
            self.model.noise = &noisy[0]
        self.model.model_levels = 0 if model_bits == 32 else (1 << (model_bits - 1)) - 1
        self.model.gradient_levels = 0 if gradient_bits == 32 else (1 << (gradient_bits - 1)) - 1
        self.model.model_seed, self.model.loss = seed, known_loss(loss)
        self.kept += (hold_proximal(&self.model.prox, proximal, features, padded),)

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

    def run(self, Rows rows, const size_t[::1] order, const float[::1] steps, int threads):
        """Steps of `batch` rows over order[...]: (sum of the loss, sum of x'Dx / 2, both weighted, finite)."""
        cdef sgd_result result
        cdef float[::1] room = self.room
        cdef int level = simd.index()
        cdef size_t count = order.shape[0], needed = (count + self.batch - 1) // self.batch
        if not count:
            return 0.0, 0.0, True
        if <size_t>steps.shape[0] < needed:
            raise ValueError(f"{needed} steps, {steps.shape[0]} step sizes")
        with nogil:
            result = sgd_run(&rows.rows, &self.model, &order[0], count, self.batch, &steps[0], &room[0], level, threads)
        return result.loss, result.noise, bool(result.finite)


def quantize(const float[::1] v, int levels, float scale, uint64_t seed, uint64_t number):
    """Unbiased rounding of v (n,) to `levels` levels on each side of zero, up to `scale`."""
    out = np.empty(v.shape[0], np.float32)
    cdef float[::1] target = out
    if v.shape[0]:
        with nogil:
            quantize_vector(&v[0], v.shape[0], levels, scale, seed, number, &target[0])
    return out
