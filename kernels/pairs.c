/* Gram matrix of packed codes, exactly (design: the normal equations). Rows are taken TILE by TILE: first each block of 64 columns
 * is unpacked and laid out as panels of 16 columns, four rows of a column in one 32-bit word; then each panel is multiplied with
 * itself and those after it, 8 columns by 32 at a time in registers, in 32 bits, and added to 64-bit sums.
 * vpdpbusd multiplies unsigned by signed bytes: it gets u and u - 128, and 128 times the column's sum is added at the end of a tile.
 * Integers are exact in any order; sums with labels are float64, row after row: the same for any level, threads and tiles. */
#include "pairs.h"
#include "simd.h"
#include "team.h"
#include "threads.h"

#define TILE 512 /* rows: 512 * 255 * 255 < 2^31; a panel of them takes 8 KiB */
#define QUADS (TILE / 4)
#define PANEL 16

#define BODY "pairs_body.h"
#include "each_level.h"
#include "pairs_blocks.h"

typedef struct {
    const gram_rows *rows;
    size_t first, quads; /* of this tile */
    uint32_t *panels;    /* [panel][QUADS][PANEL] */
    int64_t *gram, *sums, *tile_sums;
    double *cross;
    int level;
} gram_tile;

typedef void (*panels_fn)(const gram_rows *, size_t, size_t, size_t, uint32_t *, int64_t *, double *);
typedef void (*block_fn)(const uint32_t *, const uint32_t *, size_t, const int64_t *, int64_t *, size_t);
static const panels_fn PANELS[LEVEL_COUNT] = FOR_LEVEL(gram_panels);
static const block_fn BLOCKS[LEVEL_COUNT] = FOR_OWN_LEVEL(gram_block);

size_t gram_room(size_t features)
{
    const size_t padded = gram_padded(features);
    return (padded * QUADS + PANEL * QUADS) * sizeof(uint32_t) + padded * sizeof(int64_t);
}

static void lay_out(void *of, size_t block)
{
    const gram_tile *tile = of;
    uint32_t *panels = tile->panels + block * (BLOCK / PANEL) * QUADS * PANEL;
    int64_t *own = tile->tile_sums + block * BLOCK;
    PANELS[tile->level](tile->rows, tile->first, tile->quads, block, panels, own, tile->cross + block * BLOCK);
    for (size_t f = 0; f < BLOCK; f++)
        tile->sums[block * BLOCK + f] += own[f];
}

static void multiply(void *of, size_t panel)
{
    const gram_tile *tile = of;
    const size_t padded = gram_padded(tile->rows->shape.features), panels = padded / PANEL;
    for (size_t other = panel; other < panels; other += 2) /* of an odd number, the panel beyond the last is zeros, not added */
        for (size_t half = 0; half < PANEL; half += PANEL / 2) {
            const size_t i = panel * PANEL + half, width = other + 1 < panels ? 2 * PANEL : PANEL;
            int64_t sums[PANEL / 2 * 2 * PANEL] ALIGNED64;
            BLOCKS[tile->level](tile->panels + panel * QUADS * PANEL + half, tile->panels + other * QUADS * PANEL, tile->quads,
                                tile->tile_sums + i, sums, 2 * PANEL);
            for (size_t a = 0; a < PANEL / 2; a++)
                for (size_t b = 0; b < width; b++)
                    tile->gram[(i + a) * padded + other * PANEL + b] += sums[a * 2 * PANEL + b];
        }
}

void gram_add(const gram_rows *rows, int64_t *gram, int64_t *sums, double *cross, void *room, int level, int threads)
{
    const size_t padded = gram_padded(rows->shape.features), blocks = padded / BLOCK;
    gram_tile tile = {.rows = rows, .panels = room, .gram = gram, .sums = sums, .cross = cross, .level = level};
    tile.tile_sums = (int64_t *)((uint32_t *)room + padded * QUADS + PANEL * QUADS);
    memset(room, 0, gram_room(rows->shape.features));
    const size_t most = rows->rows < TILE ? rows->rows : TILE;
    team *helpers = team_start(threads_for(threads, most * padded * (padded / 64), padded / PANEL));
    for (tile.first = 0; tile.first < rows->rows; tile.first += TILE) {
        const size_t left = rows->rows - tile.first;
        tile.quads = ((left < TILE ? left : TILE) + 3) / 4;
        team_run(helpers, lay_out, &tile, blocks);
        team_run(helpers, multiply, &tile, padded / PANEL);
    }
    team_stop(helpers);
}
