/* Encoding of a strip of rows of one block of 64 features at one vector level: see encode.c. */
#include "philox_body.h"

/* Uniform levels: interval and position by one subtraction and one multiplication. */
LANE_FN void LEVELED(locate_uniform)(f16 a, const code_levels *levels, size_t at, int intervals, u16 *interval, f16 *position)
{
    f16 v = f_mul(f_sub(a, f_load(levels->low + at)), f_load(levels->inverse + at));
    *interval = u_min(u_trunc(v), u_set((uint32_t)(intervals - 1)));
    *position = f_min(f_sub(v, f_from_u(*interval)), f_set(1.0f));
}

/* Few levels: one compare a level, and the interval's start, 1/width and width follow by selection. */
LANE_FN void LEVELED(locate_linear)(f16 a, const float *level, const float *inverse, const float *width, int intervals,
                                       u16 *interval, f16 *position, f16 *size)
{
    f16 start = f_load(level), scale = f_load(inverse), extent = f_load(width);
    u16 i = u_set(0);
    for (int j = 1; j < intervals; j++) {
        f16 l = f_load(level + (size_t)j * BLOCK);
        i = u_add_ge(i, a, l);
        start = f_select_ge(a, l, l, start);
        scale = f_select_ge(a, l, f_load(inverse + (size_t)j * BLOCK), scale);
        extent = f_select_ge(a, l, f_load(width + (size_t)j * BLOCK), extent);
    }
    *interval = i;
    *position = f_min(f_mul(f_sub(a, start), scale), f_set(1.0f));
    *size = extent;
}

/* Many levels: binary search by gathers; log2(s) steps instead of s. */
LANE_FN void LEVELED(locate_search)(f16 a, const float *level, const float *inverse, const float *width, int intervals,
                                       u16 *interval, f16 *position, f16 *size)
{
    const u16 lanes = u_iota(0), pitch = u_set(BLOCK), last = u_set((uint32_t)(intervals - 1));
    u16 i = u_set(0);
    for (uint32_t step = 128; step; step >>= 1) {
        if (step > (uint32_t)(intervals - 1))
            continue;
        u16 next = u_min(u_add(i, u_set(step)), last);
        f16 l = f_gather(level, u_add(u_mul(next, pitch), lanes));
        i = u_select_ge(a, l, next, i);
    }
    u16 at = u_add(u_mul(i, pitch), lanes);
    *interval = i;
    *position = f_min(f_mul(f_sub(a, f_gather(level, at)), f_gather(inverse, at)), f_set(1.0f));
    *size = f_gather(width, at);
}

/* Returns 1 where a value is outside of its feature's levels (or NaN), else 0. */
LANE_FN int LEVELED(encode_tile)(const encode_task *task, int uniform, int search)
{
    const code_shape *shape = task->shape;
    const code_levels *levels = task->levels;
    const int intervals = shape->intervals, samples = shape->samples, wide = task->random_bits == 24;
    const size_t base = levels->shared ? 0 : task->block * BLOCK;
    const float *level = levels->low + (uniform ? base : base * (size_t)(intervals + 1));
    const float *inverse = levels->inverse + (uniform ? base : base * (size_t)intervals);
    const float *width = levels->width + (uniform ? base : base * (size_t)intervals);
    const f16 one = f_set(1.0f), per_sample = f_set(1.0f / (float)samples), scale = f_set(wide ? 16777216.0f : 65536.0f);
    const u16 half = u_set(0xffff);
    f16 noise[4], error[4];
    u16 outside = u_set(0);
    if (task->noise)
        for (int q = 0; q < 4; q++) {
            noise[q] = f_load(task->noise + 16 * q);
            error[q] = f_load(task->error + 16 * q);
        }
    for (size_t r = 0; r < task->rows; r++) {
        const float *x = task->x + r * task->pitch;
        float padded[BLOCK] ALIGNED64;
        if (task->width < BLOCK) {
            memcpy(padded, level, sizeof padded); /* code 0, and within the levels */
            memcpy(padded, x, task->width * sizeof *x);
            x = padded;
        }
        u16 interval[4], ups[4], threshold[4], words[4];
        f16 position[4], size[4];
        UNROLL(4)
        for (int q = 0; q < 4; q++) {
            const size_t at = 16 * (size_t)q;
            const f16 a = f_load(x + at);
            if (uniform)
                LEVELED(locate_uniform)(a, levels, base + at, intervals, &interval[q], &position[q]);
            else if (search)
                LEVELED(locate_search)(a, level + at, inverse + at, width + at, intervals, &interval[q], &position[q], &size[q]);
            else
                LEVELED(locate_linear)(a, level + at, inverse + at, width + at, intervals, &interval[q], &position[q], &size[q]);
            const f16 top = f_load(uniform ? levels->high + base + at : level + (size_t)intervals * BLOCK + at);
            outside = u_outside(outside, a, f_load(level + at), top);
            threshold[q] = u_trunc(f_mul(position[q], scale));
            ups[q] = u_set(0);
        }
        if (task->nearest) {
            for (int q = 0; q < 4; q++)
                ups[q] = u_add_ge(ups[q], position[q], f_set(0.5f));
        } else if (wide) {
            for (int j = 0; j < samples; j++) {
                philox_block(words, (uint32_t)task->block, task->row + r, (uint32_t)j, &task->keys);
                for (int q = 0; q < 4; q++)
                    ups[q] = u_add_less(ups[q], u_shr(words[q], 8), threshold[q]);
            }
        } else {
            for (int j = 0; j < samples; j += 2) {
                philox_block(words, (uint32_t)task->block, task->row + r, (uint32_t)(j / 2), &task->keys);
                for (int q = 0; q < 4; q++)
                    ups[q] = u_add_less(ups[q], u_and(words[q], half), threshold[q]);
                if (j + 1 < samples)
                    for (int q = 0; q < 4; q++)
                        ups[q] = u_add_less(ups[q], u_shr(words[q], 16), threshold[q]);
            }
        }
        uint8_t codes[BLOCK] ALIGNED64;
        UNROLL(4)
        for (int q = 0; q < 4; q++) {
            u_store_bytes(codes + 16 * q, u_add(u_mul(interval[q], u_set((uint32_t)samples)), ups[q]));
            if (task->noise) {
                f16 spread = f_mul(position[q], f_sub(one, position[q]));
                f16 miss = f_sub(f_mul(f_from_u(ups[q]), per_sample), position[q]);
                f16 square = uniform ? one : f_mul(size[q], size[q]);
                noise[q] = f_add(noise[q], uniform ? spread : f_mul(spread, square));
                error[q] = f_add(error[q], uniform ? f_mul(miss, miss) : f_mul(f_mul(miss, miss), square));
            }
        }
        b_pack(task->out + r * shape->stride, codes, shape->bits, task->bytes);
    }
    if (task->noise)
        for (int q = 0; q < 4; q++) {
            f_store(task->noise + 16 * q, noise[q]);
            f_store(task->error + 16 * q, error[q]);
        }
    return u_any(outside);
}

KERNEL_FN int LEVELED(encode_any)(const encode_task *task)
{
    if (task->levels->uniform)
        return LEVELED(encode_tile)(task, 1, 0);
    if (task->shape->intervals > 16)
        return LEVELED(encode_tile)(task, 0, 1);
    return LEVELED(encode_tile)(task, 0, 0);
}
