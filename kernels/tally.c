/* How often each code of a feature occurs: what the noise of every precision of a file of planes is computed from (FORMAT.md, section 7).
 * A block of 64 features is a task: its counters, at most 128 KiB, stay in the second cache, and no two threads meet.
 * Rows are walked through, not features: 64 updates lie between two of the same feature, so that none waits for the one before.
 * Plain C: an update is a load, an addition and a store, and that is what it costs; unpacking beside it is little.
 * Whole numbers: the order of rows, blocks and threads does not matter. */
#include "tally.h"

#include "bits.h"
#include "team.h"
#include "threads.h"

typedef struct {
    const uint8_t *packed;
    size_t stride, rows, features;
    int bits;
    uint64_t *counts;
} tally_job;

static void tally_block(void *all, size_t block)
{
    const tally_job *job = all;
    const size_t first = block * BLOCK, width = job->features - first < BLOCK ? job->features - first : BLOCK;
    const size_t bytes = (width * (size_t)job->bits + 7) / 8;
    const uint8_t *in = job->packed + block * 8 * (size_t)job->bits;
    uint64_t *counts = job->counts + (first << job->bits);
    for (size_t r = 0; r < job->rows; r++, in += job->stride) {
        uint8_t codes[BLOCK];
        bits_unpack(codes, in, job->bits, bytes);
        for (size_t f = 0; f < width; f++)
            counts[f << job->bits | codes[f]]++;
    }
}

void tally(const uint8_t *packed, size_t stride, size_t rows, size_t features, int bits, uint64_t *counts, int threads)
{
    tally_job job = {packed, stride, rows, features, bits, counts};
    const size_t blocks = (features + BLOCK - 1) / BLOCK;
    team_each(threads_for(threads, rows * features, blocks), tally_block, &job, blocks);
}
