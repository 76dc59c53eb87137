/* Codes to panels at one vector level: see pairs.c. */

/* A block of 64 columns of `quads` times four rows, the last of which may not be there: [panel][QUADS][PANEL] words, the columns'
 * sums, and cross[target][column] += u * label. */
KERNEL_FN void LEVELED(gram_panels)(const gram_rows *rows, size_t first, size_t quads, size_t block, uint32_t *panels, int64_t *sums,
                                    double *cross)
{
    const code_shape *shape = &rows->shape;
    const size_t width = block_width(shape, block), padded = gram_padded(shape->features);
    uint8_t codes[4][BLOCK] ALIGNED64;
    uint32_t total[BLOCK] = {0};
    for (size_t quad = 0; quad < quads; quad++) {
        for (size_t k = 0; k < 4; k++) {
            const size_t row = first + 4 * quad + k;
            if (row >= rows->rows) {
                memset(codes[k], 0, BLOCK);
                continue;
            }
            b_unpack(codes[k], rows->packed + row * shape->stride + block_start(shape, block), shape->bits, block_bytes(shape, block));
            if (rows->table) {
                const uint8_t *table = rows->table + block * BLOCK * rows->pitch;
                for (size_t f = 0; f < width; f++)
                    codes[k][f] = table[f * rows->pitch + codes[k][f]];
            }
            if (width < BLOCK)
                memset(codes[k] + width, 0, BLOCK - width);
            for (size_t t = 0; t < rows->targets; t++) {
                const double label = (double)rows->labels[row * rows->targets + t];
                for (size_t f = 0; f < BLOCK; f++)
                    cross[t * padded + f] += (double)codes[k][f] * label;
            }
        }
        for (size_t f = 0; f < BLOCK; f++) {
            const uint32_t a = codes[0][f], b = codes[1][f], c = codes[2][f], d = codes[3][f];
            panels[(f / PANEL * QUADS + quad) * PANEL + f % PANEL] = a | b << 8 | c << 16 | d << 24;
            total[f] += a + b + c + d;
        }
    }
    for (size_t f = 0; f < BLOCK; f++)
        sums[f] = total[f];
}
