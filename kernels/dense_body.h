/* Rows to residuals to gradient sums, and the step, at one vector level: see dense.c. */
#include "loss_body.h"

#if defined(__GNUC__) || defined(__clang__)
#define ASK(p) __builtin_prefetch(p, 0, 3)
#else
#define ASK(p) ((void)(p))
#endif

/* `more` >= count: rows of `order` that there are, for asking ahead. gradient = sum of e * a, residual = e. */
KERNEL_FN void LEVELED(dense_part)(const dense_work *work, const size_t *order, size_t count, size_t more, float base, float *residual,
                                   float *gradient, dense_sums *sums)
{
    const size_t features = work->rows->features, whole_blocks = features / BLOCK, blocks = work->blocks, rest = features % BLOCK;
    const float *folded = work->model->folded;
    float tail[TILE][BLOCK] ALIGNED64, lanes[16] ALIGNED64;
    double value = 0, slope = 0;
    memset(gradient, 0, blocks * BLOCK * sizeof *gradient);
    memset(tail, 0, sizeof tail);
    for (size_t start = 0; start < count; start += TILE) {
        const size_t now = count - start < TILE ? count - start : TILE;
        const float *row[TILE];
        float e[16] ALIGNED64 = {0}, y[16] ALIGNED64 = {0}, weight[16] ALIGNED64 = {0}; /* z, then slopes; TILE are rows */
        double lost[16];
        for (size_t r = 0; r < TILE; r++) {
            row[r] = work->rows->values + order[start + (r < now ? r : 0)] * features;
            if (rest)
                memcpy(tail[r], row[r] + whole_blocks * BLOCK, rest * sizeof(float));
        }
        for (size_t r = 0; r < now; r++) {
            const size_t ahead = start + r + TILE < more ? start + r + TILE : start + r;
            const float *next = work->rows->values + order[ahead] * features;
            f16 s[4] = {f_set(0), f_set(0), f_set(0), f_set(0)};
            for (size_t b = 0; b < blocks; b++) {
                const float *a = b < whole_blocks ? row[r] + b * BLOCK : tail[r], *w = folded + b * BLOCK;
                UNROLL(4)
                for (int q = 0; q < 4; q++) {
                    ASK(next + b * BLOCK + 16 * q);
                    s[q] = f_add(s[q], f_mul(f_load(a + 16 * q), f_load(w + 16 * q)));
                }
            }
            f_store(lanes, f_add(f_add(s[0], s[1]), f_add(s[2], s[3])));
            for (int half = 8; half; half /= 2)
                for (int l = 0; l < half; l++)
                    lanes[l] += lanes[l + half];
            e[r] = lanes[0] + base;
            y[r] = work->rows->labels[order[start + r]];
            weight[r] = row_weight(work->rows->row_weights, order[start + r]);
        }
        LEVELED(row_losses)(work->model->loss, e, y, weight, lost);
        for (size_t r = 0; r < now; r++) {
            residual[start + r] = e[r];
            value += lost[r];
            slope += (double)e[r];
        }
        f16 own[TILE];
        UNROLL(4)
        for (int r = 0; r < TILE; r++)
            own[r] = f_set(e[r]); /* 0 for rows that are not there */
        for (size_t b = 0; b < blocks; b++)
            UNROLL(4)
            for (size_t q = 0; q < BLOCK; q += 16) {
                f16 g = f_load(gradient + b * BLOCK + q);
                UNROLL(4)
                for (int r = 0; r < TILE; r++)
                    g = f_add(g, f_mul(own[r], f_load((b < whole_blocks ? row[r] + b * BLOCK : tail[r]) + q)));
                f_store(gradient + b * BLOCK + q, g);
            }
    }
    sums->value = value;
    sums->slope = slope;
}

/* Steps blocks first..last-1 of the model, and folds it. */
KERNEL_FN void LEVELED(dense_fold)(const dense_work *work, size_t first, size_t last, float step, float residuals, float share,
                                   const proximal *prox)
{
    const dense_model *model = work->model;
    const dense_rows *rows = work->rows;
    for (size_t b = first; b < last; b++) {
        float lanes[16] ALIGNED64;
        f16 centre = f_set(0);
        for (size_t f = b * BLOCK; f < b * BLOCK + BLOCK; f += 16) {
            f16 sum = f_load(work->gradient + f), x = f_load(model->weights + f);
            for (size_t p = 1; p < PARTS; p++)
                sum = f_add(sum, f_load(work->gradient + p * work->blocks * BLOCK + f));
            const f16 centred = f_sub(sum, f_mul(f_load(rows->mean + f), f_set(residuals)));
            const f16 g = f_add(f_mul(f_mul(f_load(rows->scale + f), centred), f_set(share)), f_mul(f_load(model->curvature + f), x));
            x = LEVELED(proximal_step)(prox, f_sub(x, f_mul(f_set(step), g)), f, step);
            const f16 w = f_mul(x, f_load(rows->scale + f));
            f_store(model->weights + f, x);
            f_store(model->folded + f, w);
            centre = f_add(centre, f_mul(f_load(rows->mean + f), w));
        }
        f_store(lanes, centre);
        for (int half = 8; half; half /= 2)
            for (int l = 0; l < half; l++)
                lanes[l] += lanes[l + half];
        work->centre[b] = lanes[0];
    }
}
#undef ASK
