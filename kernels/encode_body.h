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

/* A row of the block: `first` fills it up, which has code 0 and is within the levels. Asks for the next strip's row here. */
LANE_FN const float *LEVELED(block_row)(const encode_task *task, size_t r, const float *first, float padded[BLOCK])
{
    const float *x = task->x + r * task->pitch;
    for (size_t f = 0; f < BLOCK; f += 16)
        PREFETCH(x + STRIP * task->pitch + f);
    if (task->width == BLOCK)
        return x;
    memcpy(padded, first, BLOCK * sizeof *first);
    memcpy(padded, x, task->width * sizeof *x);
    return padded;
}

/* One row's part of the sums. size: NULL where levels are uniform. */
LANE_FN void LEVELED(add_noise)(float *noise, float *error, u16 ups, f16 position, const f16 *size, f16 per_sample)
{
    f16 spread = f_mul(position, f_sub(f_set(1.0f), position));
    f16 miss = f_sub(f_mul(f_from_u(ups), per_sample), position), square = f_mul(miss, miss);
    if (size) {
        const f16 area = f_mul(*size, *size);
        spread = f_mul(spread, area);
        square = f_mul(square, area);
    }
    f_store(noise, f_add(f_load(noise), spread));
    f_store(error, f_add(f_load(error), square));
}

/* Two samples of 16 random bits, the default: interval and position are one number of 16 + 16 bits, a position of 1 is the next
 * interval, which has the same code, and two values share a lane from there on. Returns 1 where a value is outside of its levels. */
LANE_FN int LEVELED(encode_pairs)(const encode_task *task, int uniform, int noisy)
{
    const code_shape *shape = task->shape;
    const code_levels *levels = task->levels;
    const int intervals = shape->intervals;
    const size_t base = levels->shared ? 0 : task->block * BLOCK;
    const float *level = levels->low + (uniform ? base : base * (size_t)(intervals + 1));
    const float *inverse = levels->inverse + (uniform ? base : base * (size_t)intervals);
    const float *width = levels->width + (uniform ? base : base * (size_t)intervals);
    const float *top = uniform ? levels->high + base : level + (size_t)intervals * BLOCK;
    const philox_part part = philox_columns((uint32_t)task->block, (uint32_t)(task->row >> 32), 0, &task->keys);
    m16 within[4] = {m_full(), m_full(), m_full(), m_full()};
    for (size_t r = 0; r < task->rows; r++) {
        float padded[BLOCK] ALIGNED64;
        const float *x = LEVELED(block_row)(task, r, level, padded);
        u16 words[4], interval[4], fixed[4];
        f16 position[4], size[4];
        UNROLL(4)
        for (int q = 0; q < 4; q++) {
            const size_t at = 16 * (size_t)q;
            const f16 a = f_load(x + at), low = f_load(level + at);
            within[q] = m_within(within[q], a, low, f_load(top + at));
            if (uniform) {
                const f16 v = f_min(f_mul(f_sub(a, low), f_load(inverse + at)), f_set((float)intervals));
                fixed[q] = u_trunc(f_mul(v, f_set(65536.0f)));
                interval[q] = u_shr(fixed[q], 16);
                position[q] = f_sub(v, f_from_u(interval[q]));
            } else {
                LEVELED(locate_linear)(a, level + at, inverse + at, width + at, intervals, &interval[q], &position[q], &size[q]);
                fixed[q] = u_add(u_shl(interval[q], 16), u_trunc(f_mul(position[q], f_set(65536.0f))));
            }
        }
        philox_row(words, &part, task->row + r, &task->keys);
        h32 code[2];
        UNROLL(2)
        for (int p = 0; p < 2; p++) {
            const u16 *two = fixed + 2 * p, *random = words + 2 * p;
            const h32 place = h_bottoms(two[0], two[1]), from = h_tops(two[0], two[1]);
            code[p] = h_add_less(h_add(from, from), h_bottoms(random[0], random[1]), place);
            code[p] = h_add_less(code[p], h_tops(random[0], random[1]), place);
        }
        b_pack(task->out + r * shape->stride, b_join_pairs(code[0], code[1]), shape->bits, task->bytes);
        UNROLL(4)
        for (int q = 0; q < 4 && noisy; q++) {
            const u16 ups = u_sub(q % 2 ? u_odds(code[q / 2]) : u_evens(code[q / 2]), u_add(interval[q], interval[q]));
            const f16 *extent = uniform ? NULL : &size[q];
            LEVELED(add_noise)(task->noise + 16 * q, task->error + 16 * q, ups, position[q], extent, f_set(0.5f));
        }
    }
    for (int q = 1; q < 4; q++)
        if (!m_is_full(within[q]))
            return 1;
    return !m_is_full(within[0]);
}

/* Any number of samples of 16 or 24 random bits, or the nearest level. Returns 1 where a value is outside of its levels. */
LANE_FN int LEVELED(encode_tile)(const encode_task *task, int uniform, int search)
{
    const code_shape *shape = task->shape;
    const code_levels *levels = task->levels;
    const int intervals = shape->intervals, samples = shape->samples, wide = task->random_bits == 24;
    const size_t base = levels->shared ? 0 : task->block * BLOCK;
    const float *level = levels->low + (uniform ? base : base * (size_t)(intervals + 1));
    const float *inverse = levels->inverse + (uniform ? base : base * (size_t)intervals);
    const float *width = levels->width + (uniform ? base : base * (size_t)intervals);
    const float *top = uniform ? levels->high + base : level + (size_t)intervals * BLOCK;
    const f16 per_sample = f_set(1.0f / (float)samples), scale = f_set(wide ? 16777216.0f : 65536.0f);
    const u16 half = u_set(0xffff);
    const philox_part part = philox_columns((uint32_t)task->block, (uint32_t)(task->row >> 32), 0, &task->keys);
    m16 within = m_full();
    for (size_t r = 0; r < task->rows; r++) {
        float padded[BLOCK] ALIGNED64;
        const float *x = LEVELED(block_row)(task, r, level, padded);
        u16 interval[4], ups[4], threshold[4], words[4], code[4];
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
            within = m_within(within, a, f_load(level + at), f_load(top + at));
            threshold[q] = u_trunc(f_mul(position[q], scale));
            ups[q] = u_set(0);
        }
        if (task->nearest) {
            for (int q = 0; q < 4; q++)
                ups[q] = u_add_ge(ups[q], position[q], f_set(0.5f));
        } else {
            for (int j = 0; j < samples; j += wide ? 1 : 2) {
                if (j == 0)
                    philox_row(words, &part, task->row + r, &task->keys);
                else
                    philox_block(words, (uint32_t)task->block, task->row + r, (uint32_t)(wide ? j : j / 2), &task->keys);
                for (int q = 0; q < 4; q++)
                    ups[q] = u_add_less(ups[q], wide ? u_shr(words[q], 8) : u_and(words[q], half), threshold[q]);
                if (!wide && j + 1 < samples)
                    for (int q = 0; q < 4; q++)
                        ups[q] = u_add_less(ups[q], u_shr(words[q], 16), threshold[q]);
            }
        }
        UNROLL(4)
        for (int q = 0; q < 4; q++) {
            const size_t at = 16 * (size_t)q;
            code[q] = u_add(u_mul(interval[q], u_set((uint32_t)samples)), ups[q]);
            const f16 *extent = uniform ? NULL : &size[q];
            if (task->noise)
                LEVELED(add_noise)(task->noise + at, task->error + at, ups[q], position[q], extent, per_sample);
        }
        b_pack(task->out + r * shape->stride, b_join(code), shape->bits, task->bytes);
    }
    return !m_is_full(within);
}

KERNEL_FN int LEVELED(encode_any)(const encode_task *task)
{
    const int uniform = task->levels->uniform;
    if (task->shape->samples == 2 && task->random_bits == 16) {
        if (task->noise)
            return uniform ? LEVELED(encode_pairs)(task, 1, 1) : LEVELED(encode_pairs)(task, 0, 1);
        return uniform ? LEVELED(encode_pairs)(task, 1, 0) : LEVELED(encode_pairs)(task, 0, 0);
    }
    if (uniform)
        return LEVELED(encode_tile)(task, 1, 0);
    if (task->shape->intervals > 16)
        return LEVELED(encode_tile)(task, 0, 1);
    return LEVELED(encode_tile)(task, 0, 0);
}
