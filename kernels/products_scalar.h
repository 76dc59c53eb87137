/* The products in plain C, on one code or table entry a byte: the meaning of products_avx2.h, products_avx512.h and
 * products_neon.h. */
#include "products.h"

static inline int planes_scalar(const integer_rows *rows)
{
    (void)rows;
    return 1;
}

/* Row `row` as bytes u, zeros beyond the features. */
static inline void fetch_bytes(const integer_rows *rows, size_t row, size_t lines, uint8_t *out)
{
    const uint8_t *packed = rows->packed + row * rows->shape.stride;
    for (size_t block = 0; block < lines; block++, out += BLOCK) {
        if (block >= code_blocks(rows->shape.features)) {
            memset(out, 0, BLOCK);
            continue;
        }
        const size_t width = block_width(&rows->shape, block);
        bits_unpack(out, packed + block_start(&rows->shape, block), rows->shape.bits, block_bytes(&rows->shape, block));
        if (rows->table) {
            const uint8_t *table = rows->table + block * BLOCK * rows->pitch;
            for (size_t f = 0; f < width; f++)
                out[f] = table[f * rows->pitch + out[f]];
        }
        memset(out + width, 0, BLOCK - width);
    }
}

/* Row pointers to where whole lines can be read: where rows lie, or in `work`, where they are copied or unpacked. */
ALWAYS_INLINE void settle_rows(const slab_job *job)
{
    const integer_rows *rows = job->rows;
    const size_t pitch = job->layout.lines * LINE, bytes = (rows->shape.features * (size_t)rows->shape.bits + 7) / 8;
    const int bytewise = rows->table || 8 % rows->shape.bits;
    if (!bytewise && bytes % LINE == 0)
        return;
    for (size_t r = 0; r < job->count; r++) {
        uint8_t *out = job->work + r * pitch;
        if (bytewise) {
            fetch_bytes(rows, job->order[r], job->layout.lines, out);
        } else {
            memcpy(out, job->row[r], bytes);
            memset(out + bytes, 0, pitch - bytes);
        }
        job->row[r] = out;
    }
    for (size_t r = job->count; r % 16; r++)
        job->row[r] = job->row[job->count - 1];
}

static inline int32_t signed_at(const signed_bytes *v, size_t i)
{
    return v->parts == 2 ? 256 * v->part[1][i] + v->part[0][i] : v->part[0][i];
}

static void dot_scalar(const slab_job *job)
{
    const size_t pitch = job->layout.lines * LINE;
    for (size_t r = 0; r < job->count; r++) {
        uint8_t *u = job->work + r * pitch;
        fetch_bytes(job->rows, job->order[r], job->layout.lines, u);
        int64_t total = 0;
        for (size_t first = 0; first < pitch; first += LINE) { /* 64 * 255 * 32639 < 2^31 */
            int32_t sum = 0;
            for (size_t f = first; f < first + LINE; f++)
                sum += u[f] * signed_at(&job->model, f);
            total += sum;
        }
        job->dot[r] = total;
    }
}

static void gradient_scalar(const slab_job *job)
{
    const size_t pitch = job->layout.lines * LINE;
    for (size_t line = 0; line < job->layout.lines; line++) {
        int32_t sum[LINE] = {0}; /* 128 * 255 * 32639 < 2^31 */
        for (size_t r = 0; r < job->count; r++) {
            const int32_t e = signed_at(&job->residual, r);
            for (size_t i = 0; i < LINE; i++)
                sum[i] += job->work[r * pitch + line * LINE + i] * e;
        }
        for (size_t i = 0; i < LINE; i++)
            job->sums[line * LINE + sum_place(i, 0)] = job->scale * (float)sum[i];
    }
}
