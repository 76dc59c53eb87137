/* The float32 half of an integer step at one vector level, 16 lanes at a time: see integer_steps.c. */
#include "loss_body.h"
#include "philox_body.h"

/* Q(v) as integers -levels..levels; `most` = the largest |v|, 1 where that is 0 (FORMAT.md, section 5). */
LANE_FN u16 LEVELED(round_lanes)(f16 v, float most, float levels, u16 word)
{
    const f16 at = f_mul(f_div(f_abs(v), f_set(most)), f_set(levels));
    const u16 below = u_trunc(at);
    const f16 chance = f_mul(f_from_u(u_shr(word, 8)), f_set(0x1p-24f));
    const u16 stays = u_add_ge(u_set(0), chance, f_sub(at, f_from_u(below)));
    const u16 code = u_sub(u_add(below, u_set(1)), stays);
    return u_select_ge(v, f_set(0), code, u_sub(u_set(0), code));
}

/* Integers as one or two signed bytes. */
LANE_FN void LEVELED(store_signed)(const signed_bytes *out, size_t at, u16 code)
{
    u_store_bytes((uint8_t *)out->part[0] + at, u_and(code, u_set(255)));
    if (out->parts == 2)
        u_store_bytes((uint8_t *)out->part[1] + at, u_and(u_shr(u_add(code, u_set(128)), 8), u_set(255)));
}

/* Sum of `blocks` blocks of 16 floats, lane by lane, then the lanes: one order at every level. */
KERNEL_FN float LEVELED(sum_blocks)(const float *p, size_t blocks)
{
    float lanes[16] ALIGNED64;
    f16 sum = f_set(0);
    for (size_t b = 0; b < blocks; b++)
        sum = f_add(sum, f_load(p + 16 * b));
    f_store(lanes, sum);
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            lanes[l] += lanes[l + half];
    return lanes[0];
}

LANE_FN float LEVELED(largest_lane)(f16 v)
{
    float lanes[16] ALIGNED64, most = 0;
    f_store(lanes, v);
    for (int l = 0; l < 16; l++)
        most = lanes[l] > most ? lanes[l] : most;
    return most;
}

/* [i * planes + p] -> [p][i], and for floats the way back from the order of sums. */
LANE_FN void LEVELED(place_model)(int8_t *out, const int8_t *in, int planes)
{
#define PLACE(P) \
    for (size_t p = 0; p < P; p++) \
        for (size_t i = 0; i < LINE; i++) \
            out[model_place(i, p)] = in[i * P + p];
    switch (planes) {
    case 1: memcpy(out, in, LINE); break;
    case 2: PLACE(2) break;
    case 4: PLACE(4) break;
    default: PLACE(8)
    }
#undef PLACE
}
LANE_FN void LEVELED(take_sums)(float *out, const float *in, int planes)
{
#define TAKE(P) \
    for (size_t i = 0; i < LINE; i += 4) \
        for (size_t j = 0; j < 4; j++) \
            for (size_t p = 0; p < P; p++) \
                out[(i + j) * P + p] = in[sum_place(i, p) + j];
    switch (planes) {
    case 1: TAKE(1) break;
    case 2: TAKE(2) break;
    case 4: TAKE(4) break;
    default: TAKE(8)
    }
#undef TAKE
}

/* The model of lines first..last-1 in code space, rounded with one scale, most / levels: integers in working order, what
 * they stand for in model->rounded, and 16 sums for every block of 64 features: of low * x, and of D x^2. */
KERNEL_FN void LEVELED(round_model)(const step_work *work, size_t first, size_t last, float most, const philox_keys *keys)
{
    const integer_rows *rows = work->rows;
    const integer_model *model = work->model;
    const int planes = work->layout.planes;
    const size_t width = LINE * (size_t)planes;
    const float levels = (float)work->model_levels, scale = most / levels;
    int8_t low_bytes[512] ALIGNED64, high_bytes[512] ALIGNED64;
    const signed_bytes codes = {{low_bytes, high_bytes}, work->planes.parts};
    for (size_t line = first; line < last; line++) {
        for (size_t at = 0; at < width; at += BLOCK) {
            const size_t f = line * width + at;
            u16 words[4];
            f16 base[4], noise[4];
            philox_block(words, (uint32_t)(f / BLOCK), 2 * work->step_number, (uint32_t)PURPOSE_MODEL << 16, keys);
            for (int q = 0; q < 4; q++) {
                const size_t g = f + 16 * (size_t)q;
                const u16 code = LEVELED(round_lanes)(f_mul(f_load(model->weights + g), f_load(rows->step + g)), most, levels, words[q]);
                const f16 x = f_mul(f_mul(f_from_u(code), f_set(scale)), f_load(rows->inverse_step + g));
                LEVELED(store_signed)(&codes, at + 16 * (size_t)q, code);
                f_store(model->rounded + g, x);
                base[q] = f_mul(f_load(rows->low + g), x);
                noise[q] = model->noise ? f_mul(f_mul(f_load(model->noise + g), x), x) : f_set(0);
            }
            f_store(work->block_base + f / 4, f_add(f_add(base[0], base[1]), f_add(base[2], base[3])));
            if (model->noise)
                f_store(work->block_noise + f / 4, f_add(f_add(noise[0], noise[1]), f_add(noise[2], noise[3])));
        }
        for (int part = 0; part < codes.parts; part++)
            LEVELED(place_model)(work->planes.part[part] + line * width, codes.part[part], planes);
    }
}

/* Residuals of a slab from its dot products: rounded with one scale, and their sums. `position`: the first row's in the batch. */
KERNEL_FN void LEVELED(slab_residuals)(const step_work *work, slab_job *job, size_t position, float base, float scale,
                                       const philox_keys *keys, slab_sums *sums)
{
    const integer_rows *rows = job->rows;
    const size_t count = job->count, padded = (count + 15) / 16 * 16;
    const float levels = (float)work->residual_levels;
    float z[SLAB_ROWS] ALIGNED64, y[SLAB_ROWS] ALIGNED64, weight[SLAB_ROWS] ALIGNED64;
    sums->weight = 0;
    for (size_t r = 0; r < count; r++) {
        z[r] = base + scale * (float)job->dot[r];
        y[r] = rows->labels[job->order[r]];
        weight[r] = row_weight(rows->row_weights, job->order[r]);
        sums->weight += (double)weight[r];
    }
    memset(z + count, 0, (padded - count) * sizeof *z);
    memset(y + count, 0, (padded - count) * sizeof *y);
    memset(weight + count, 0, (padded - count) * sizeof *weight);
    f16 most = f_set(0);
    double value[8] = {0}, slope[8] = {0}, lost[16];
    for (size_t r = 0; r < padded; r += 16) {
        LEVELED(row_losses)(work->model->loss, z + r, y + r, weight + r, lost);
        most = f_max(f_abs(f_load(z + r)), most);
        for (size_t j = 0; j < 16; j++) {
            value[j % 8] += lost[j];
            slope[j % 8] += (double)z[r + j];
        }
    }
    const float largest = LEVELED(largest_lane)(most);
    job->scale = largest / levels;
    const float divisor = largest > 0 ? largest : 1;
    u16 words[4], total = u_set(0);
    size_t block = (size_t)-1;
    for (size_t r = 0; r < padded; r += 16) {
        const size_t at = position + r;
        if (at / BLOCK != block)
            philox_block(words, (uint32_t)(block = at / BLOCK), work->step_number, (uint32_t)PURPOSE_RESIDUAL << 16, keys);
        const u16 code = LEVELED(round_lanes)(f_load(z + r), divisor, levels, words[at % BLOCK / 16]);
        LEVELED(store_signed)(&job->residual, r, code);
        total = u_add(total, code);
    }
    uint32_t lanes[16] ALIGNED64, sum = 0;
    u_store(lanes, total);
    for (int l = 0; l < 16; l++)
        sum += lanes[l];
    sums->rounded = job->scale * (float)(int32_t)sum;
    sums->value = ((value[0] + value[1]) + (value[2] + value[3])) + ((value[4] + value[5]) + (value[6] + value[7]));
    sums->slope = ((slope[0] + slope[1]) + (slope[2] + slope[3])) + ((slope[4] + slope[5]) + (slope[6] + slope[7]));
}

/* gradient = (step * sum of e u + low * sum of e) / rows + curvature * x for lines first..last-1; returns its largest size. */
KERNEL_FN float LEVELED(sum_gradient)(const step_work *work, size_t first, size_t last, size_t slabs, float residuals, float share)
{
    const integer_rows *rows = work->rows;
    const integer_model *model = work->model;
    const int planes = work->layout.planes;
    const size_t width = LINE * (size_t)planes, pitch = work->layout.lines * width;
    float sum[512] ALIGNED64, ordered[512] ALIGNED64;
    f16 most = f_set(0);
    for (size_t line = first; line < last; line++) {
        for (size_t at = 0; at < width; at += 16) {
            const float *part = work->sums + line * width + at;
            f16 s = f_load(part);
            for (size_t slab = 1; slab < slabs; slab++)
                s = f_add(s, f_load(part + slab * pitch));
            f_store(sum + at, s);
        }
        LEVELED(take_sums)(ordered, sum, planes);
        for (size_t at = 0; at < width; at += 16) {
            const size_t f = line * width + at;
            const f16 own = f_mul(f_load(rows->step + f), f_load(ordered + at)), all = f_mul(f_load(rows->low + f), f_set(residuals));
            const f16 pull = f_mul(f_load(model->curvature + f), f_load(model->rounded + f));
            const f16 g = f_add(f_mul(f_add(own, all), f_set(share)), pull);
            f_store(model->gradient + f, g);
            most = f_max(f_abs(g), most);
        }
    }
    return LEVELED(largest_lane)(most);
}

/* weights -= step * gradient, then the proximal step, for lines first..last-1, the gradient rounded beforehand where the model says so.
 * Returns the largest |x * step| of the new weights, or infinity where one is not finite. */
KERNEL_FN float LEVELED(step_weights)(const step_work *work, size_t first, size_t last, float gradient_most, float step,
                                      const philox_keys *keys)
{
    const integer_model *model = work->model;
    const size_t width = LINE * (size_t)work->layout.planes;
    const float levels = (float)model->gradient_levels, scale = model->gradient_levels ? gradient_most / levels : 0;
    const float divisor = gradient_most > 0 ? gradient_most : 1;
    const f16 highest = f_set(FLT_MAX), lowest = f_set(-FLT_MAX);
    f16 most = f_set(0);
    m16 within = m_full();
    for (size_t f = first * width; f < last * width; f += BLOCK) {
        u16 words[4] = {u_set(0), u_set(0), u_set(0), u_set(0)};
        if (model->gradient_levels)
            philox_block(words, (uint32_t)(f / BLOCK), 2 * work->step_number + 1, (uint32_t)PURPOSE_MODEL << 16, keys);
        for (int q = 0; q < 4; q++) {
            const size_t at = f + 16 * (size_t)q;
            f16 g = f_load(model->gradient + at);
            if (model->gradient_levels) {
                g = f_mul(f_from_u(LEVELED(round_lanes)(g, divisor, levels, words[q])), f_set(scale));
                f_store(model->gradient + at, g);
            }
            const f16 moved = f_sub(f_load(model->weights + at), f_mul(f_set(step), g));
            const f16 x = LEVELED(proximal_step)(&model->prox, moved, at, step);
            f_store(model->weights + at, x);
            within = m_within(within, x, lowest, highest);
            most = f_max(f_abs(f_mul(x, f_load(work->rows->step + at))), most);
        }
    }
    return m_is_full(within) ? LEVELED(largest_lane)(most) : INFINITY;
}

/* The largest |x * step| of lines first..last-1. */
KERNEL_FN float LEVELED(largest_weight)(const step_work *work, size_t first, size_t last)
{
    const size_t width = LINE * (size_t)work->layout.planes;
    f16 most = f_set(0);
    for (size_t f = first * width; f < last * width; f += 16)
        most = f_max(f_abs(f_mul(f_load(work->model->weights + f), f_load(work->rows->step + f))), most);
    return LEVELED(largest_lane)(most);
}
