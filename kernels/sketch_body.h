/* Rows of up to 16 columns into their cells, at one vector level: see sketch.c. */

KERNEL_FN void LEVELED(sketch_strip)(const float *x, size_t pitch, size_t rows, size_t width, const sketch_grid *grid, sketch_cell *cells,
                                     int32_t *keys)
{
    float pivot[STRIP] ALIGNED64, scale[STRIP] ALIGNED64;
    memcpy(pivot, grid->pivot, sizeof pivot);
    memcpy(scale, grid->scale, sizeof scale);
    const int32_t last = (int32_t)grid->cells - 1;
    for (size_t r = 0; r < rows; r++, x += pitch) {
        int32_t key[STRIP] ALIGNED64;
        float a[STRIP] ALIGNED64;
        __builtin_prefetch(x + AHEAD * pitch);
        if (width < STRIP)
            memset(a, 0, sizeof a);
        memcpy(a, x, (width < STRIP ? width : STRIP) * sizeof *x);
        for (int f = 0; f < STRIP; f++)
            key[f] = key_of(a[f], pivot[f], scale[f]);
        for (int f = 0; f < STRIP; f++)
            keys[f * PITCH + r] = key[f];
    }
    for (size_t f = 0; f < width; f++) {
        const int32_t *key = keys + f * PITCH, first = grid->first[f], shift = grid->shift[f], mask = (int32_t)((1u << shift) - 1);
        sketch_cell *own = cells + f * grid->room;
        for (size_t r = 0; r < rows; r++) {
            const int32_t at = (key[r] >> shift) - first;
            sketch_cell *c = own + (at < 0 ? 0 : at > last ? last : at); /* never outside, whatever the caller's range was */
            const uint32_t place = (uint32_t)(key[r] & mask);
            c->count++;
            c->offsets += place;
            if (UNLIKELY(place > c->top)) /* rarely: a branch costs less than a store each time */
                c->top = place;
            if (UNLIKELY(~place > c->bottom))
                c->bottom = ~place;
        }
    }
}
