/* Philox for one row and 64 neighbouring features, at the level being compiled: 16 counters a call, four words each.
 * words[q] lane l belongs to feature 64*block + 16*q + l. */
LANE_FN void philox_block(u16 words[4], uint32_t block, uint64_t row, uint32_t stream, const philox_keys *keys)
{
    u16 a = u_iota(16 * block), b = u_set((uint32_t)row), c = u_set((uint32_t)(row >> 32)), d = u_set(stream), h0, l0, h1, l1;
    UNROLL(10)
    for (int r = 0; r < PHILOX_ROUNDS; r++) {
        u_mulhilo(a, PHILOX_M0, &h0, &l0);
        u_mulhilo(c, PHILOX_M1, &h1, &l1);
        a = u_xor3(h1, b, u_set(keys->k0[r]));
        b = l1;
        c = u_xor3(h0, d, u_set(keys->k1[r]));
        d = l0;
    }
    words[0] = a;
    words[1] = b;
    words[2] = c;
    words[3] = d;
}
