/* Rows of codes to values, bytes or samples at one vector level: see decode.c. */
#include "values_body.h"

KERNEL_FN void LEVELED(decode_any)(const decode_task *task)
{
    const code_shape *shape = task->job->shape;
    uint8_t codes[BLOCK] ALIGNED64;
    float out[BLOCK] ALIGNED64;
    const uint32_t top = (uint32_t)(shape->intervals * shape->samples);
    for (size_t block = 0; block < task->blocks; block++) {
        const size_t width = block_width(shape, block);
        b_unpack(codes, task->packed + block_start(shape, block), shape->bits, block_bytes(shape, block));
        if (task->bytes) {
            memcpy(task->bytes + block * BLOCK, codes, width);
        } else if (width == BLOCK) {
            LEVELED(block_values)(task->out + block * BLOCK, codes, task->values, block, width, top);
        } else {
            LEVELED(block_values)(out, codes, task->values, block, width, top);
            memcpy(task->out + block * BLOCK, out, width * sizeof *out);
        }
    }
}

/* Rows of a block by tables of 16, which stay in registers; pitch: floats from row to row. Asks for the next strip's lines. */
KERNEL_FN void LEVELED(look_up_any)(const decode_task *task, size_t block, size_t pitch)
{
    const code_shape *shape = task->job->shape;
    const float *table = task->values->blocked + (task->values->pitch ? 16 * BLOCK * block : 0);
    uint8_t codes[STRIP][BLOCK] ALIGNED64;
    for (size_t r = 0; r < task->rows; r++) {
        const uint8_t *packed = task->packed + r * shape->stride + block_start(shape, block);
        b_unpack(codes[r], packed, shape->bits, block_bytes(shape, block));
    }
    for (int q = 0; q < BLOCK; q += 16) {
        for (size_t r = 0; r < task->rows; r++)
            PREFETCH(task->out + (r + STRIP) * pitch + q);
        f16 entries[16];
        UNROLL(16)
        for (int t = 0; t < 16; t++)
            entries[t] = f_load(table + t * BLOCK + q);
        for (size_t r = 0; r < task->rows; r++)
            f_store(task->out + r * pitch + q, f_pick(entries, u_load_bytes(codes[r] + q)));
    }
}

KERNEL_FN void LEVELED(draw_any)(const decode_task *task)
{
    const code_shape *shape = task->job->shape;
    uint8_t codes[BLOCK] ALIGNED64, drawn[256][BLOCK] ALIGNED64;
    float out[BLOCK] ALIGNED64;
    const uint32_t top = (uint32_t)(shape->intervals * shape->samples);
    for (size_t block = 0; block < task->blocks; block++) {
        const size_t width = block_width(shape, block);
        b_unpack(codes, task->packed + block_start(shape, block), shape->bits, block_bytes(shape, block));
        LEVELED(block_draw)(drawn, shape->samples, codes, shape->samples, top, block, task->row, &task->keys);
        for (int j = 0; j < shape->samples; j++) {
            LEVELED(block_values)(out, drawn[j], task->values, block, width, top);
            memcpy(task->out + (size_t)j * task->pitch + block * BLOCK, out, width * sizeof *out);
        }
    }
}

KERNEL_FN void LEVELED(pack_any)(const code_shape *shape, const uint8_t *codes, uint8_t *packed)
{
    uint8_t padded[BLOCK] ALIGNED64;
    for (size_t block = 0; block < code_blocks(shape->features); block++) {
        const size_t width = block_width(shape, block);
        const uint8_t *from = codes + block * BLOCK;
        if (width < BLOCK) {
            memset(padded, 0, sizeof padded);
            memcpy(padded, from, width);
            from = padded;
        }
        b_pack(packed + block_start(shape, block), b_load(from), shape->bits, block_bytes(shape, block));
    }
}
