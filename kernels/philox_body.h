/* Ten rounds of Philox on 16 counters of four words, at the level being compiled. */
LANE_FN void philox_rounds(u16 c[4], const philox_keys *keys)
{
    u16 h0, l0, h1, l1;
    UNROLL(10)
    for (int r = 0; r < PHILOX_ROUNDS; r++) {
        u_mulhilo(c[0], PHILOX_M0, &h0, &l0);
        u_mulhilo(c[2], PHILOX_M1, &h1, &l1);
        c[0] = u_xor3(h1, c[1], u_set(keys->k0[r]));
        c[1] = l1;
        c[2] = u_xor3(h0, c[3], u_set(keys->k1[r]));
        c[3] = l0;
    }
}

/* Philox for one row and 64 neighbouring features: 16 counters a call, four words each.
 * words[q] lane l belongs to feature 64*block + 16*q + l. */
LANE_FN void philox_block(u16 words[4], uint32_t block, uint64_t row, uint32_t stream, const philox_keys *keys)
{
    words[0] = u_iota(16 * block);
    words[1] = u_set((uint32_t)row);
    words[2] = u_set((uint32_t)(row >> 32));
    words[3] = u_set(stream);
    philox_rounds(words, keys);
}
