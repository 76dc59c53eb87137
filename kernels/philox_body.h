/* Philox on 16 counters of four words, at the level being compiled. Lanes are products of 64 bits until the last round. */

/* Rounds first..9 of counters (a, b, c, d). */
LANE_FN void philox_finish(u16 words[4], p16 a, p16 b, p16 c, p16 d, int first, const philox_keys *keys)
{
    const int last = PHILOX_ROUNDS - 1;
    UNROLL(10)
    for (int r = first; r < last; r++) {
        const p16 p0 = p_mul(a, PHILOX_M0), p1 = p_mul(c, PHILOX_M1);
        a = p_mix(p1, b, keys->k0[r]);
        c = p_mix(p0, d, keys->k1[r]);
        b = p1;
        d = p0;
    }
    const p16 p0 = p_mul(a, PHILOX_M0), p1 = p_mul(c, PHILOX_M1);
    words[0] = u_xor3(u_high(p1), u_low(b), u_set(keys->k0[last]));
    words[1] = u_low(p1);
    words[2] = u_xor3(u_high(p0), u_low(d), u_set(keys->k1[last]));
    words[3] = u_low(p0);
}

LANE_FN void philox_rounds(u16 c[4], const philox_keys *keys)
{
    philox_finish(c, p_wide(c[0]), p_wide(c[1]), p_wide(c[2]), p_wide(c[3]), 0, keys);
}

/* Philox for one row and 64 neighbouring features: words[q] lane l belongs to feature 64*block + 16*q + l.
 * A round mixes a counter's halves, feature and row, which are apart at first: up to the third round there are products that no row is
 * in, made once for many rows (`philox_columns`), and others that no feature is in, made without lanes. It saves a fourth. */
typedef struct { p16 zeroth, first, second; } philox_part; /* of the rounds 0, 1 and 2 */

LANE_FN philox_part philox_columns(uint32_t block, uint32_t row_high, uint32_t stream, const philox_keys *keys)
{
    philox_part part;
    part.zeroth = p_mul(p_wide(u_iota(16 * block)), PHILOX_M0);
    part.first = p_mul(p_xor(p_high(part.zeroth), stream ^ keys->k1[0]), PHILOX_M1);
    part.second = p_mul(p_xor(p_high(part.first), (row_high * PHILOX_M1) ^ keys->k0[1]), PHILOX_M0);
    return part;
}

/* `part`: of the same block, row >> 32 and stream. */
LANE_FN void philox_row(u16 words[4], const philox_part *part, uint64_t row, const philox_keys *keys)
{
    const uint32_t high = (uint32_t)(((row >> 32) * PHILOX_M1) >> 32);
    const uint64_t own = (uint64_t)(high ^ (uint32_t)row ^ keys->k0[0]) * PHILOX_M0;
    const p16 b = p_mul(p_xor(part->zeroth, (uint32_t)(own >> 32) ^ keys->k1[1]), PHILOX_M1);
    const p16 a = p_mix(b, part->first, keys->k0[2]), c = p_xor(p_high(part->second), (uint32_t)own ^ keys->k1[2]);
    philox_finish(words, a, b, c, part->second, 3, keys);
}

LANE_FN void philox_block(u16 words[4], uint32_t block, uint64_t row, uint32_t stream, const philox_keys *keys)
{
    const philox_part part = philox_columns(block, (uint32_t)(row >> 32), stream, keys);
    philox_row(words, &part, row, keys);
}
