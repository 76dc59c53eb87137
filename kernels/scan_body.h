/* Columns' statistics at one vector level: see scan.c. */

/* A strip of rows of one block. Accumulators are [64]; returns non-zero if a value is not finite. */
KERNEL_FN uint32_t LEVELED(scan_strip)(const float *x, size_t pitch, size_t rows, size_t width, const float *shift, float *restrict low,
                                       float *restrict high, double *restrict sum, double *restrict square)
{
    uint32_t bad = 0;
    for (size_t r = 0; r < rows; r++, x += pitch) {
        for (size_t f = 0; f < width; f += 16)
            PREFETCH(x + STRIP * pitch + f);
        uint32_t raw[BLOCK] ALIGNED64;
        float a[BLOCK] ALIGNED64;
        if (width < BLOCK)
            memset(a, 0, sizeof a);
        memcpy(a, x, (width < BLOCK ? width : BLOCK) * sizeof *x);
        memcpy(raw, a, sizeof raw);
        for (int f = 0; f < BLOCK; f++)
            bad |= (raw[f] & 0x7fffffffu) > 0x7f7fffffu;
        for (int f = 0; f < BLOCK; f++) {
            const double d = (double)a[f] - (double)shift[f];
            sum[f] += d;
            square[f] += d * d;
        }
        for (int f = 0; f < BLOCK; f++)
            low[f] = a[f] < low[f] ? a[f] : low[f];
        for (int f = 0; f < BLOCK; f++)
            high[f] = a[f] > high[f] ? a[f] : high[f];
    }
    return bad;
}
