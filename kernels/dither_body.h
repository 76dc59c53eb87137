/* Dither of some rows at one vector level: see dither.c. */
#include "philox_body.h"

#define ROWS 16  /* whose random bytes are made together */
#define BYTES 32 /* of them a row: one, and one for each bit of a feature's number */
#define NEAR 8   /* blocks whose numbers differ in the last three bits */

/* The value in each of `count` fields of a word, which is linear over exclusive or. */
LANE_FN uint64_t LEVELED(alike)(int value, int bits, int count)
{
    const uint64_t all = bits * count == 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits * count % 64) - 1;
    return (uint64_t)value * (all / (((uint64_t)1 << bits) - 1));
}

/* Fields of a word of eight whose number has bit i set, i = 0, 1, 2, filled with ones. */
LANE_FN uint64_t LEVELED(halves)(int i, int bits)
{
    const uint64_t field = ((uint64_t)1 << bits) - 1;
    uint64_t word = 0;
    for (int l = 0; l < 8; l++)
        word |= l >> i & 1 ? field << l * bits : 0;
    return word;
}

/* Bytes of ROWS rows: BYTES or, for narrow rows, half of them. */
LANE_FN void LEVELED(row_bytes)(uint8_t y[ROWS][BYTES], uint64_t first, int wide, const philox_keys *keys)
{
    uint32_t low[16] ALIGNED64, high[16] ALIGNED64, word[16] ALIGNED64;
    for (uint32_t r = 0; r < ROWS; r++) {
        low[r] = (uint32_t)(first + r);
        high[r] = (uint32_t)((first + r) >> 32);
    }
    for (uint32_t half = 0; half < (wide ? 2u : 1u); half++) {
        u16 c[4] = {u_set(half), u_load(low), u_load(high), u_set((uint32_t)PURPOSE_DITHER << 16)};
        philox_rounds(c, keys);
        for (int q = 0; q < 4; q++) {
            u_store(word, c[q]);
            for (int r = 0; r < ROWS; r++)
                memcpy(y[r] + 16 * half + 4 * q, &word[r], 4);
        }
    }
}

/* 64 fields as `bits` words from eight words of eight fields. */
LANE_FN void LEVELED(laid)(uint64_t words[8], const uint64_t groups[8], int bits)
{
    UNROLL(8)
    for (int w = 0; w < bits; w++) {
        words[w] = 0;
        UNROLL(8)
        for (int g = 0; g < 8; g++) {
            const int at = 8 * bits * g - 64 * w; /* where the group begins in the word */
            if (at >= 0 && at < 64)
                words[w] |= groups[g] << at;
            else if (at < 0 && at > -8 * bits)
                words[w] |= groups[g] >> -at;
        }
    }
}

/* Adds a block's fields to its bytes, or subtracts them: as one number of `bits` words, for a field may be in two of them. */
LANE_FN void LEVELED(dither_block)(uint8_t *row, const uint64_t pattern[8], uint64_t alike, int bits, int subtract)
{
    const int whole = bits == 8 || bits == 4 || bits == 2; /* no field is in two words */
    const uint64_t groups[8] = {alike, alike, alike, alike, alike, alike, alike, alike};
    uint64_t words[8], carry = 0;
    if (!whole)
        LEVELED(laid)(words, groups, bits);
    for (int w = 0; w < bits; w++) {
        const uint64_t part = pattern[w] ^ (whole ? alike : words[w]);
        uint64_t word, sum;
        memcpy(&word, row + 8 * w, 8);
        sum = subtract ? word - part - carry : word + part + carry;
        if (!whole)
            carry = subtract ? word < part || (word == part && carry) : sum < word || (sum == word && carry);
        memcpy(row + 8 * w, &sum, 8);
    }
}

/* The last block, of `rest` features: what is beyond them stays as it is. */
LANE_FN void LEVELED(dither_rest)(uint8_t *row, const uint64_t pattern[8], uint64_t alike, size_t rest, int bits, int subtract)
{
    uint8_t sums[BLOCK] = {0};
    const size_t last = (rest * (size_t)bits - 1) / 8;
    const uint8_t kept = (uint8_t)(0xff00 >> (8 * (last + 1) - rest * (size_t)bits)), before = row[last];
    memcpy(sums, row, last + 1);
    LEVELED(dither_block)(sums, pattern, alike, bits, subtract);
    memcpy(row, sums, last);
    row[last] = (uint8_t)((before & kept) | (sums[last] & ~kept));
}

LANE_FN void LEVELED(dither_row)(uint8_t *row, const uint8_t y[BYTES], const uint64_t half[3], size_t features, int bits,
                                 int spread, int subtract)
{
    const int shift = 8 - spread, fields = bits == 8 || bits == 4 || bits == 2 ? 64 / bits : 8;
    const size_t blocks = features / BLOCK, rest = features % BLOCK, size = 8 * (size_t)bits;
    uint64_t groups[8], pattern[8], change[NEAR] = {0}, far = 0;
    groups[0] = LEVELED(alike)(y[0] >> shift, bits, 8);
    for (int i = 0; i < 3; i++)
        groups[0] ^= LEVELED(alike)(y[1 + i] >> shift, bits, 8) & half[i];
    for (int i = 0; i < 3; i++) {
        const uint64_t other = LEVELED(alike)(y[4 + i] >> shift, bits, 8);
        for (int g = 0; g < 1 << i; g++)
            groups[(1 << i) + g] = groups[g] ^ other;
    }
    LEVELED(laid)(pattern, groups, bits);
    for (int i = 0; i < 3; i++) {
        const uint64_t other = LEVELED(alike)(y[7 + i] >> shift, bits, fields);
        for (int g = 0; g < 1 << i; g++)
            change[(1 << i) + g] = change[g] ^ other;
    }
    for (size_t first = 0; first < blocks + (rest > 0); first += NEAR) {
        if (first + NEAR <= blocks) {
            for (size_t near = 0; near < NEAR; near++)
                LEVELED(dither_block)(row + near * size, pattern, change[near] ^ far, bits, subtract);
        } else {
            for (size_t near = 0; first + near < blocks; near++)
                LEVELED(dither_block)(row + near * size, pattern, change[near] ^ far, bits, subtract);
            if (rest)
                LEVELED(dither_rest)(row + (blocks - first) * size, pattern, change[blocks - first] ^ far, rest, bits, subtract);
        }
        row += NEAR * size;
        uint8_t more = y[10];
        for (size_t i = 0; (first / NEAR >> i & 1) && i + 11 < BYTES; i++) /* of the next, bits 0..i + 1 of first / NEAR change */
            more ^= y[11 + i];
        far ^= LEVELED(alike)(more >> shift, bits, fields);
    }
}

LANE_FN void LEVELED(dither_strip)(uint8_t *packed, size_t stride, size_t rows, const uint8_t y[ROWS][BYTES], size_t features,
                                   int bits, int spread, int subtract)
{
    uint64_t half[3];
    for (int i = 0; i < 3; i++)
        half[i] = LEVELED(halves)(i, bits);
    for (size_t r = 0; r < rows; r++)
        LEVELED(dither_row)(packed + r * stride, y[r], half, features, bits, spread, subtract);
}

/* One copy for each number of bits and each direction, so that the loops over words are unrolled. */
#define OF_BITS(n)                                                                                            \
    case n:                                                                                                   \
        if (job->subtract)                                                                                    \
            LEVELED(dither_strip)(packed, stride, count, y, job->features, n, job->spread, 1);                \
        else                                                                                                  \
            LEVELED(dither_strip)(packed, stride, count, y, job->features, n, job->spread, 0);                \
        break;

KERNEL_FN void LEVELED(dither)(const dither_job *job, uint8_t *packed, size_t stride, uint64_t first, size_t rows)
{
    uint8_t y[ROWS][BYTES] = {{0}};
    const int wide = job->features > (size_t)1 << (BYTES / 2 - 1);
    for (size_t at = 0; at < rows; at += ROWS, packed += ROWS * stride) {
        const size_t count = rows - at < ROWS ? rows - at : ROWS;
        LEVELED(row_bytes)(y, first + at, wide, &job->keys);
        switch (job->bits) {
            OF_BITS(2)
            OF_BITS(3)
            OF_BITS(4)
            OF_BITS(5)
            OF_BITS(6)
            OF_BITS(7)
            OF_BITS(8)
        }
    }
}

#undef OF_BITS
#undef ROWS
#undef BYTES
#undef NEAR
