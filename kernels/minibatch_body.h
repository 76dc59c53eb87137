/* Rows to residuals to gradient sums at one vector level: see minibatch.c. */
#include "loss_body.h"
#include "values_body.h"

/* One row, standardised, into tile[blocks * 64]: the sample for the gradient; `second` has that for the dot product (double-sampling).
 * Collapsed adds its c(t), times the row's weight, to `extra`. */
LANE_FN void LEVELED(fill_row)(const sgd_rows *rows, size_t row, float weight, float *tile, float *second, float *extra)
{
    const code_shape *shape = &rows->shape;
    const size_t blocks = code_blocks(shape->features);
    const uint32_t top = (uint32_t)(shape->intervals * shape->samples);
    uint8_t codes[BLOCK] ALIGNED64, drawn[2][BLOCK] ALIGNED64;
    if (!rows->packed) {
        const float *x = rows->raw + row * rows->pitch;
        float padded[BLOCK] ALIGNED64;
        for (size_t block = 0; block < blocks; block++, x += BLOCK) {
            const size_t width = block_width(shape, block), first = block * BLOCK;
            const float *a = x;
            if (width < BLOCK) {
                memset(padded, 0, sizeof padded);
                memcpy(padded, x, width * sizeof *x);
                a = padded;
            }
            for (size_t at = 0; at < BLOCK; at += 16)
                f_store(tile + first + at, f_mul(f_sub(f_load(a + at), f_load(rows->mean + first + at)), f_load(rows->scale + first + at)));
        }
        return;
    }
    const uint8_t *packed = rows->packed + row * shape->stride;
    philox_keys keys = {{0}, {0}};
    if (rows->estimator == ESTIMATOR_DOUBLE)
        keys = philox_schedule(rows->draw_seed);
    for (size_t block = 0; block < blocks; block++) {
        const size_t width = block_width(shape, block), first = block * BLOCK;
        b_unpack(codes, packed + block_start(shape, block), shape->bits, block_bytes(shape, block));
        if (rows->estimator == ESTIMATOR_DOUBLE) {
            LEVELED(block_draw)(drawn, 2, codes, shape->samples, top, block, rows->numbers[row], &keys);
            LEVELED(block_values)(tile + first, drawn[0], &rows->values, block, width, top);
            LEVELED(block_values)(second + first, drawn[1], &rows->values, block, width, top);
            continue;
        }
        LEVELED(block_values)(tile + first, codes, &rows->values, block, width, top);
        if (rows->estimator == ESTIMATOR_COLLAPSED && extra) {
            const float *c = rows->correction + first * rows->correction_pitch;
            for (size_t f = 0; f < width; f++)
                extra[first + f] += weight * c[f * rows->correction_pitch + codes[f]];
        }
    }
}

/* Four running sums of 16 lanes, added in one fixed order: the same float32 at every level. */
LANE_FN float LEVELED(dot)(const float *a, const float *w, size_t padded)
{
    f16 s[4] = {f_set(0), f_set(0), f_set(0), f_set(0)};
    float lanes[16] ALIGNED64;
    for (size_t f = 0; f < padded; f += BLOCK)
        for (int q = 0; q < 4; q++)
            s[q] = f_add(s[q], f_mul(f_load(a + f + 16 * q), f_load(w + f + 16 * q)));
    f_store(lanes, f_add(f_add(s[0], s[1]), f_add(s[2], s[3])));
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            lanes[l] += lanes[l + half];
    return lanes[0];
}

/* A part of a mini-batch: slopes and losses of its rows, and the slopes' sum with the rows in part->gradient. */
KERNEL_FN void LEVELED(sgd_part)(const sgd_rows *rows, const float *weights, float bias, const sgd_part_job *part)
{
    const size_t padded = code_blocks(rows->shape.features) * BLOCK;
    float *second = rows->estimator == ESTIMATOR_DOUBLE ? part->tile + part->tile_rows * padded : NULL;
    for (size_t start = 0; start < part->count; start += part->tile_rows) {
        const size_t count = part->count - start < part->tile_rows ? part->count - start : part->tile_rows;
        float z[TILE_ROWS] ALIGNED64 = {0}, y[TILE_ROWS] ALIGNED64 = {0}, weight[TILE_ROWS] ALIGNED64 = {0};
        double lost[TILE_ROWS];
        for (size_t r = 0; r < count; r++) {
            float *tile = part->tile + r * padded;
            const size_t row = part->order ? part->order[start + r] : part->first + start + r;
            weight[r] = row_weight(rows->row_weights, row);
            LEVELED(fill_row)(rows, row, weight[r], tile, second, part->extra);
            z[r] = LEVELED(dot)(second ? second : tile, weights, padded) + bias;
            y[r] = part->gradient ? rows->labels[row] : 0;
        }
        if (part->gradient)
            LEVELED(row_losses)(part->loss, z, y, weight, lost);
        memcpy(part->residual + start, z, count * sizeof *z);
        if (!part->gradient)
            continue;
        memcpy(part->lost + start, lost, count * sizeof *lost);
        for (size_t f = 0; f < padded; f += BLOCK) {
            f16 g[4];
            for (int q = 0; q < 4; q++)
                g[q] = f_load(part->gradient + f + 16 * q);
            for (size_t r = 0; r < count; r++) {
                const f16 e = f_set(part->residual[start + r]);
                for (int q = 0; q < 4; q++)
                    g[q] = f_add(g[q], f_mul(e, f_load(part->tile + r * padded + f + 16 * q)));
            }
            for (int q = 0; q < 4; q++)
                f_store(part->gradient + f + 16 * q, g[q]);
        }
    }
}

KERNEL_FN void LEVELED(sgd_row)(const sgd_rows *rows, size_t row, float *tile) { LEVELED(fill_row)(rows, row, 1, tile, NULL, NULL); }

/* weights -= step * gradient, then the proximal step. */
KERNEL_FN void LEVELED(sgd_step)(const sgd_model *model, size_t padded, float step)
{
    for (size_t f = 0; f < padded; f += 16) {
        const f16 x = f_sub(f_load(model->weights + f), f_mul(f_set(step), f_load(model->gradient + f)));
        f_store(model->weights + f, LEVELED(proximal_step)(&model->prox, x, f, step));
    }
}
