/* 64 codes, one a byte, to and from 8 * bits bytes, LSB first (formats/FORMAT.md, section 3).
 * Eight codes are one 64-bit word; three mask-shift-or steps bring neighbours together (1+1, 2+2, 4+4 codes), and the
 * word's low `bits` bytes are the result. Unpacking takes the same steps backwards.
 * No pext/pdep: they are slow on Zen 1 and 2, and these steps vectorise. lanes_avx512.h does eight words at once. */
#ifndef ZIPML_BITS_H
#define ZIPML_BITS_H

#include "simd.h"

#define BLOCK 64 /* features that are encoded and decoded together: 8 * bits whole bytes of a row */

/* `bits` < 64 ones at the bottom of each of the 64 / size fields of a word */
#define FIELDS(bits, size) ((((uint64_t)1 << (bits)) - 1) * (~(uint64_t)0 / (((uint64_t)1 << ((size) - 1)) * 2 - 1)))

/* Writes `bytes` <= 8 * bits bytes. */
ALWAYS_INLINE void bits_pack(uint8_t *out, const uint8_t codes[BLOCK], int bits, size_t bytes)
{
    if (bits == 8) {
        memcpy(out, codes, bytes);
        return;
    }
    const uint64_t one = FIELDS(bits, 16), two = FIELDS(2 * bits, 32), four = FIELDS(4 * bits, 64);
    uint64_t w[8];
    uint8_t packed[BLOCK + 8];
    memcpy(w, codes, sizeof w);
    for (int i = 0; i < 8; i++) {
        uint64_t x = w[i];
        x = (x & one) | (x >> (8 - bits) & one << bits);
        x = (x & two) | (x >> (16 - 2 * bits) & two << 2 * bits);
        w[i] = (x & four) | (x >> (32 - 4 * bits) & four << 4 * bits);
    }
    for (int i = 0; i < 8; i++)
        memcpy(packed + i * bits, &w[i], 8); /* each word's surplus is overwritten by the next */
    memcpy(out, packed, bytes);
}

/* Reads `bytes` <= 8 * bits bytes; the codes beyond them are 0. */
ALWAYS_INLINE void bits_unpack(uint8_t codes[BLOCK], const uint8_t *in, int bits, size_t bytes)
{
    if (bits == 8 && bytes == BLOCK) {
        memcpy(codes, in, BLOCK);
        return;
    }
    const uint64_t one = FIELDS(bits, 16), two = FIELDS(2 * bits, 32), four = FIELDS(4 * bits, 64);
    uint64_t w[8];
    uint8_t packed[BLOCK + 8] = {0};
    memcpy(packed, in, bytes);
    for (int i = 0; i < 8; i++)
        memcpy(&w[i], packed + i * bits, 8);
    for (int i = 0; i < 8 && bits < 8; i++) {
        uint64_t x = w[i];
        x = (x & four) | (x & four << 4 * bits) << (32 - 4 * bits);
        x = (x & two) | (x & two << 2 * bits) << (16 - 2 * bits);
        w[i] = (x & one) | (x & one << bits) << (8 - bits);
    }
    memcpy(codes, w, sizeof w);
}

#endif
