/* Rows of up to 16 columns into their cells, at one vector level: see sketch.c. */

KERNEL_FN void LEVELED(sketch_strip)(const float *x, size_t pitch, size_t rows, size_t width, const sketch_grid *grid, sketch_cell *cells,
                                     float *tile)
{
    const int32_t last = (int32_t)grid->cells - 1;
    if (width == STRIP)
        for (size_t r = 0; r < rows; r++, x += pitch) {
            __builtin_prefetch(x + AHEAD * pitch);
            for (int f = 0; f < STRIP; f++)
                tile[f * PITCH + r] = x[f];
        }
    else
        for (size_t r = 0; r < rows; r++, x += pitch)
            for (size_t f = 0; f < width; f++)
                tile[f * PITCH + r] = x[f];
    const size_t lines = grid->room * sizeof *cells / 64, share = lines * PART / rows + 1;
    for (size_t f = 0; f < width; f++) {
        const float *a = tile + f * PITCH, pivot = grid->pivot[f], scale = grid->scale[f];
        const int32_t first = grid->first[f], shift = grid->shift[f], mask = (int32_t)((1u << shift) - 1);
        char *own = (char *)(cells + f * grid->room);
        const char *next = own + grid->room * sizeof *cells;
        size_t asked = f + 1 < width ? 0 : lines;
        for (size_t start = 0; start < rows; start += PART) {
            const size_t count = rows - start < PART ? rows - start : PART;
            uint32_t place[PART] ALIGNED64, offset[PART] ALIGNED64;
            for (const size_t stop = asked + share < lines ? asked + share : lines; asked < stop; asked++)
                __builtin_prefetch(next + 64 * asked, 1);
            for (int i = 0; i < PART; i++) { /* beyond the last row: what the tile held before, not counted */
                const int32_t key = key_of(a[start + i], pivot, scale), at = (key >> shift) - first;
                offset[i] = (uint32_t)(at < 0 ? 0 : at > last ? last : at) * (uint32_t)sizeof *cells; /* never outside */
                place[i] = (uint32_t)(key & mask);
            }
            for (size_t i = 0; i < count; i++) {
                sketch_cell *c = (sketch_cell *)(own + offset[i]);
                c->count++;
                c->offsets += place[i];
                if (UNLIKELY(place[i] > c->top)) /* rarely: a branch costs less than a store each time */
                    c->top = place[i];
                if (UNLIKELY(~place[i] > c->bottom))
                    c->bottom = ~place[i];
            }
        }
    }
}
