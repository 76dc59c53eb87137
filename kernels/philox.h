/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011).
 * Counter-based: the word for (seed, purpose, row, feature) needs no state, so any thread, chunk, shard or vector level
 * that asks for it gets the same bits. Counter layout: formats/FORMAT.md, section 2.
 * By hand: the integer multiply-high of 16 counters at once is what the encoder spends most of its time on.
 * Known-answer vectors of the authors' Random123 are in the tests. */
#ifndef ZIPML_PHILOX_H
#define ZIPML_PHILOX_H

#include <stdint.h>

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u
#define PHILOX_ROUNDS 10

enum purpose {
    PURPOSE_ENCODE = 0,
    PURPOSE_DRAW = 1,
    PURPOSE_ORDER = 2,
    PURPOSE_SPLIT = 3,
    PURPOSE_SAMPLE = 4,
    PURPOSE_MODEL = 5,
    PURPOSE_RESIDUAL = 6,
    PURPOSE_DITHER = 7
};

/* The keys of all rounds, computed once a call. */
typedef struct { uint32_t k0[PHILOX_ROUNDS], k1[PHILOX_ROUNDS]; } philox_keys;

static inline philox_keys philox_schedule(uint64_t seed)
{
    philox_keys keys;
    for (int r = 0; r < PHILOX_ROUNDS; r++) {
        keys.k0[r] = (uint32_t)seed + (uint32_t)r * PHILOX_W0;
        keys.k1[r] = (uint32_t)(seed >> 32) + (uint32_t)r * PHILOX_W1;
    }
    return keys;
}

static inline void philox_one(uint32_t c[4], const philox_keys *keys)
{
    for (int r = 0; r < PHILOX_ROUNDS; r++) {
        uint64_t p0 = (uint64_t)c[0] * PHILOX_M0, p1 = (uint64_t)c[2] * PHILOX_M1;
        uint32_t c0 = (uint32_t)(p1 >> 32) ^ c[1] ^ keys->k0[r], c2 = (uint32_t)(p0 >> 32) ^ c[3] ^ keys->k1[r];
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        c[0] = c0;
        c[2] = c2;
    }
}

#endif
