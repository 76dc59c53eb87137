# What the trainers' wrappers share of loss.h: included by sgd.pyx and integer.pyx.

cdef extern from "loss.h" nogil:
    int LOSS_SQUARED, LOSS_LOGISTIC, LOSS_HINGE, LOSS_COUNT

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
