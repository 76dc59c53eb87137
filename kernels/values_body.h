/* Codes of one block to values, at the level being compiled: m(t), and codes of samples drawn from t (FORMAT.md, 1 and 2). */
#include "philox_body.h"

/* values[64] of codes[64] of block `block`. */
LANE_FN void LEVELED(block_values)(float *out, const uint8_t *codes, const code_values *values, size_t block, size_t width, uint32_t top)
{
    float padded[3][BLOCK] ALIGNED64;
    const float *low = values->low, *step = values->step, *high = values->high;
    if (values->table) {
        const float *table = values->table + block * BLOCK * values->pitch;
        for (size_t f = 0; f < width; f++)
            out[f] = table[f * values->pitch + codes[f]];
        return;
    }
    low += block * BLOCK, step += block * BLOCK, high += block * BLOCK;
    if (width < BLOCK && !values->padded) {
        memset(padded, 0, sizeof padded);
        memcpy(padded[0], low, width * sizeof *low), low = padded[0];
        memcpy(padded[1], step, width * sizeof *step), step = padded[1];
        memcpy(padded[2], high, width * sizeof *high), high = padded[2];
    }
    UNROLL(4)
    for (int at = 0; at < BLOCK; at += 16) {
        const u16 t = u_load_bytes(codes + at);
        const f16 m = f_add(f_load(low + at), f_mul(f_from_u(t), f_load(step + at)));
        f_store(out + at, f_select_ge(f_from_u(t), f_set((float)top), f_load(high + at), m));
    }
}

/* For samples first..first+count-1 of every code: drawn[j][f] = the code of the level that sample j was rounded to.
 * Section 2, draw: sample j goes up where (word_j * (k - j)) >> 32 < ups left. */
LANE_FN void LEVELED(block_draw)(uint8_t drawn[][BLOCK], int count, const uint8_t *codes, int samples, uint32_t top, size_t block, uint64_t row,
                                 const philox_keys *keys)
{
    u16 base[4], left[4], words[4];
    const u16 k = u_set((uint32_t)samples), reciprocal = u_set((65536u + (uint32_t)samples - 1) / (uint32_t)samples);
    for (int q = 0; q < 4; q++) {
        const u16 t = u_min(u_load_bytes(codes + 16 * q), u_set(top));
        base[q] = u_mul(u_shr(u_mul(t, reciprocal), 16), k); /* exact for t < 256: 65536 / k rounded up */
        left[q] = u_sub(t, base[q]);
    }
    for (int j = 0; j < count; j++) {
        philox_block(words, (uint32_t)block, row, (uint32_t)PURPOSE_DRAW << 16 | (uint32_t)j, keys);
        for (int q = 0; q < 4; q++) {
            const u16 up = u_less(u_mulhi(words[q], u_set((uint32_t)(samples - j))), left[q]);
            left[q] = u_sub(left[q], up);
            u_store_bytes(drawn[j] + 16 * q, u_add(base[q], u_mul(up, k)));
        }
    }
}
