/* Packed rows to bit planes and back at one vector level: see planes.c. */

/* pitch, apart: bytes from row to row of a plane, and from plane to plane. */
KERNEL_FN void LEVELED(weave_any)(const code_shape *shape, const uint8_t *packed, size_t rows, uint8_t *planes, size_t pitch,
                                  size_t apart)
{
    uint8_t codes[BLOCK] ALIGNED64;
    const size_t used = (shape->features + 7) / 8;
    for (size_t row = 0; row < rows; row++, packed += shape->stride, planes += pitch) {
        for (size_t block = 0; block < code_blocks(shape->features); block++) {
            const size_t width = block_width(shape, block), bytes = (width + 7) / 8;
            b_unpack(codes, packed + block_start(shape, block), shape->bits, block_bytes(shape, block));
            for (int k = 0; k < shape->bits; k++) {
                const uint64_t plane = b_plane(b_load(codes), shape->bits - 1 - k) & ~(uint64_t)0 >> (BLOCK - width);
                if (bytes == 8)
                    memcpy(planes + (size_t)k * apart + 8 * block, &plane, 8);
                else
                    memcpy(planes + (size_t)k * apart + 8 * block, &plane, bytes);
            }
        }
        for (int k = 0; k < shape->bits && used < pitch; k++)
            memset(planes + (size_t)k * apart + used, 0, pitch - used);
    }
}

/* Interleaves the bytes of 2, 4 or 8 vectors. */
LANE_FN void LEVELED(zip)(b64 *x, int count)
{
    b64 y[8];
    UNROLL(3)
    for (int step = 1; step < count; step *= 2) {
        UNROLL(4)
        for (int i = 0; i < count / 2; i++) {
            y[2 * i] = b_zip_low(x[i], x[i + count / 2]);
            y[2 * i + 1] = b_zip_high(x[i], x[i + count / 2]);
        }
        UNROLL(8)
        for (int i = 0; i < count; i++)
            x[i] = y[i];
    }
}

/* 64 bytes of each plane. A bit's place is a number, of its plane and its feature; an exchange swaps two digits of all places. */
LANE_FN void LEVELED(unweave_block)(const uint8_t *planes, size_t apart, int bits, uint8_t *out)
{
    const int count = bits <= 2 ? 2 : bits <= 4 ? 4 : 8; /* of the planes that are missing, all bits are 0 */
    b64 x[8];
    UNROLL(8)
    for (int i = 0; i < count; i++) {
        const int bit = count == 4 ? i / 2 + i % 2 * 2 : i; /* this order of four bytes saves an exchange */
        x[i] = bit < bits ? b_load(planes + (size_t)(bits - 1 - bit) * apart) : b_zero();
    }
    LEVELED(zip)(x, count);
    UNROLL(8)
    for (int i = 0; i < count; i++) {
        if (count == 2)
            x[i] = b_swap(b_swap(b_swap(x[i], 4, 0x00f000f000f000f0), 2, 0x0c0c0c0c0c0c0c0c), 1, 0x2222222222222222);
        else if (count == 4)
            x[i] = b_swap(b_swap(b_swap(x[i], 6, 0x00cc00cc00cc00cc), 15, 0x0000aaaa0000aaaa), 12, 0x0000f0f00000f0f0);
        else
            x[i] = b_swap(b_swap(b_swap(x[i], 28, 0x00000000f0f0f0f0), 14, 0x0000cccc0000cccc), 7, 0x00aa00aa00aa00aa);
        if (count == bits)
            b_store(out + 64 * i, x[i]);
        else if (bits == 3) /* two codes are one of six bits */
            b_pack(out + 48 * i, b_join_halves(x[i], 3), 6, 48);
        else
            b_pack(out + 8 * bits * i, x[i], bits, 8 * (size_t)bits);
    }
}

LANE_FN void LEVELED(unweave_bits)(const uint8_t *planes, size_t apart, size_t bytes, int bits, uint8_t *out)
{
    const size_t whole = bytes / 64 * 64;
    uint8_t last[8][64] ALIGNED64, packed[8 * 64] ALIGNED64;
    for (size_t at = 0; at < whole; at += 64)
        LEVELED(unweave_block)(planes + at, apart, bits, out + at * (size_t)bits);
    if (whole == bytes)
        return;
    for (int k = 0; k < bits; k++)
        memcpy(last[k], planes + (size_t)k * apart + whole, bytes - whole);
    LEVELED(unweave_block)(last[0], 64, bits, packed);
    memcpy(out + whole * (size_t)bits, packed, (bytes - whole) * (size_t)bits);
}

/* `bytes` of each of `bits` planes, `apart` bytes from plane to plane, to bits * bytes packed ones. */
KERNEL_FN void LEVELED(unweave_any)(const uint8_t *planes, size_t apart, size_t bytes, int bits, uint8_t *out)
{
    switch (bits) { /* each width with code of its own */
    case 1: memcpy(out, planes, bytes); return;
    case 2: LEVELED(unweave_bits)(planes, apart, bytes, 2, out); return;
    case 3: LEVELED(unweave_bits)(planes, apart, bytes, 3, out); return;
    case 4: LEVELED(unweave_bits)(planes, apart, bytes, 4, out); return;
    case 5: LEVELED(unweave_bits)(planes, apart, bytes, 5, out); return;
    case 6: LEVELED(unweave_bits)(planes, apart, bytes, 6, out); return;
    case 7: LEVELED(unweave_bits)(planes, apart, bytes, 7, out); return;
    default: LEVELED(unweave_bits)(planes, apart, bytes, 8, out);
    }
}
