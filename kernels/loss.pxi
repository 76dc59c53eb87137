# What the trainers' wrappers share of loss.h: included by sgd.pyx and integer.pyx.

cdef extern from "loss.h" nogil:
    int LOSS_SQUARED, LOSS_LOGISTIC, LOSS_HINGE, LOSS_COUNT
    ctypedef struct proximal:
        const float *shrink
        const float *ridge
        const float *low
        const float *high

SQUARED, LOGISTIC, HINGE = LOSS_SQUARED, LOSS_LOGISTIC, LOSS_HINGE


cdef int known_loss(int loss) except -1:
    if not 0 <= loss < LOSS_COUNT:
        raise ValueError(f"loss {loss}: SQUARED, LOGISTIC or HINGE")
    return loss


cdef const float *row_weights(weights, Py_ssize_t count) except? NULL:
    """Of float32 (count,), or NULL for None; the caller keeps the array alive."""
    cdef const float[::1] vector
    if weights is None:
        return NULL
    vector = weights
    if vector.shape[0] != count:
        raise ValueError(f"{vector.shape[0]} weights for {count} rows")
    return &vector[0] if count else NULL


cdef object hold_proximal(proximal *out, parts, size_t features, size_t padded):
    """Point `out` at copies of (shrink, ridge, low, high), float32 (features,) or None each, zero beyond; None: no proximal step.

    Returns the copies, to be kept alive.
    """
    cdef float[::1] vector
    cdef const float *start[4]
    cdef int i
    parts = (None,) * 4 if parts is None else tuple(parts)
    if len(parts) != 4 or not all(part is None or np.shape(part) == (features,) for part in parts):
        raise ValueError(f"proximal: (shrink, ridge, low, high), each None or of {features} features")
    copies = [None if part is None else np.zeros(padded, np.float32) for part in parts]
    for i in range(4):
        start[i] = NULL
        if copies[i] is not None:
            copies[i][:features] = parts[i]
            vector = copies[i]
            start[i] = &vector[0]
    out.shrink, out.ridge, out.low, out.high = start[0], start[1], start[2], start[3]
    return copies
