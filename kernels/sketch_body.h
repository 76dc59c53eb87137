/* Rows of up to 64 columns into their cells, at one vector level: see sketch.c. */

KERNEL_FN void LEVELED(sketch_strip)(const float *x, size_t pitch, size_t rows, size_t width, const sketch_grid *grid, sketch_cell *cells)
{
    float pivot[BLOCK] ALIGNED64, scale[BLOCK] ALIGNED64;
    int32_t first[BLOCK] ALIGNED64, shift[BLOCK] ALIGNED64;
    memcpy(pivot, grid->pivot, sizeof pivot);
    memcpy(scale, grid->scale, sizeof scale);
    memcpy(first, grid->first, sizeof first);
    memcpy(shift, grid->shift, sizeof shift);
    const int32_t last = (int32_t)grid->cells - 1;
    for (size_t r = 0; r < rows; r++, x += pitch) {
        int32_t key[BLOCK] ALIGNED64, cell[BLOCK] ALIGNED64;
        float a[BLOCK] ALIGNED64;
        if (width < BLOCK)
            memset(a, 0, sizeof a);
        memcpy(a, x, (width < BLOCK ? width : BLOCK) * sizeof *x);
        for (int f = 0; f < BLOCK; f++)
            key[f] = key_of(a[f], pivot[f], scale[f]);
        for (int f = 0; f < BLOCK; f++) {
            const int32_t at = (key[f] >> shift[f]) - first[f];
            cell[f] = at < 0 ? 0 : at > last ? last : at; /* never outside, whatever the caller's range was */
            key[f] &= (int32_t)((1u << shift[f]) - 1);
        }
        for (size_t f = 0; f < width; f++) {
            sketch_cell *c = cells + f * grid->room + cell[f];
            const uint32_t place = (uint32_t)key[f];
            c->count++;
            c->offsets += place;
            c->top = place > c->top ? place : c->top;
            c->bottom = ~place > c->bottom ? ~place : c->bottom;
        }
    }
}
