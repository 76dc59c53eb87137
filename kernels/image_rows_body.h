/* Rows of images at one vector level: see image_rows.c. */
#include "philox_body.h"

/* Levels of samples first..first+count-1 of a block's codes: drawn[j][64]. */
LANE_FN void LEVELED(deal)(uint8_t drawn[2][BLOCK], int count, const uint8_t *codes, const image_task *task, size_t block)
{
    const image_job *job = task->job;
    const uint32_t k = (uint32_t)job->samples;
    u16 base[4], left[4], up[4], words[4];
    for (int q = 0; q < 4; q++) {
        const u16 t = u_min(u_load_bytes(codes + 16 * q), u_load_bytes(job->tops + block * BLOCK + 16 * q));
        base[q] = u_shr(u_mul(t, u_set((65536 + k - 1) / k)), 16); /* t / k, exact for t < 256 */
        up[q] = left[q] = u_sub(t, u_mul(base[q], u_set(k)));
    }
    for (int j = 0; j < job->first + count; j++) {
        const uint32_t rest = k - (uint32_t)j; /* samples to which none has been dealt */
        if (rest > 1) {
            philox_block(words, (uint32_t)block, task->row, (uint32_t)PURPOSE_DRAW << 16 | (uint32_t)j, &job->keys);
            for (int q = 0; q < 4; q++)
                up[q] = u_less(u_mulhi(words[q], u_set(rest)), left[q]);
        }
        for (int q = 0; q < 4; q++) {
            if (j >= job->first)
                u_store_bytes(drawn[j - job->first] + 16 * q, u_add(base[q], up[q]));
            up[q] = left[q] = u_sub(left[q], up[q]);
        }
    }
}

KERNEL_FN int LEVELED(fill_any)(const image_task *task)
{
    const image_shape *shape = task->shape;
    const image_job *job = task->job;
    const code_shape file = {shape->features, job->stride, job->bits, job->samples, 0};
    const code_shape image = {shape->features, shape->row_bytes, shape->width << shape->pairs, 1, 0};
    const u16 mask = u_set((1u << shape->width) - 1), offset = u_set((uint32_t)shape->offset);
    uint8_t codes[BLOCK] ALIGNED64, drawn[2][BLOCK] ALIGNED64, fields[BLOCK] ALIGNED64;
    for (size_t block = 0; block < code_blocks(shape->features); block++) {
        const size_t width = block_width(&file, block);
        uint8_t *out = task->out + block_start(&image, block);
        b_unpack(codes, task->packed + block_start(&file, block), file.bits, block_bytes(&file, block));
        LEVELED(deal)(drawn, 1 + shape->pairs, codes, task, block);
        for (int at = 0; at < BLOCK; at += 16) {
            u16 low = u_and(u_sub(u_load_bytes(drawn[0] + at), offset), mask);
            if (shape->pairs) {
                const u16 high = u_and(u_sub(u_load_bytes(drawn[1] + at), offset), mask);
                if (image.bits == 16)
                    u_store_bytes(drawn[1] + at, high);
                else
                    low = u_or(low, u_shl(high, shape->width));
            }
            u_store_bytes(fields + at, low);
        }
        if (image.bits == 16) {
            for (size_t f = 0; f < width; f++) {
                out[2 * f] = fields[f];
                out[2 * f + 1] = drawn[1][f];
            }
            continue;
        }
        memset(fields + width, 0, BLOCK - width); /* level 0 is not all zeros where there is an offset */
        b_pack(out, b_load(fields), image.bits, block_bytes(&image, block));
    }
    return 0;
}

KERNEL_FN int LEVELED(read_any)(const image_task *task)
{
    const image_shape *shape = task->shape;
    const code_shape image = {shape->features, shape->row_bytes, shape->width << shape->pairs, 1, 0};
    const u16 mask = u_set((1u << shape->width) - 1), offset = u_set((uint32_t)shape->offset), top = u_set((uint32_t)task->top);
    uint8_t low[BLOCK] ALIGNED64, high[BLOCK] ALIGNED64, levels[BLOCK] ALIGNED64;
    u16 above = u_set(0);
    for (size_t block = 0; block < code_blocks(shape->features); block++) {
        const size_t width = block_width(&image, block);
        const uint8_t *in = task->image + block_start(&image, block);
        memset(low, 0, sizeof low);
        memset(high, 0, sizeof high);
        if (image.bits == 16)
            for (size_t f = 0; f < width; f++) {
                low[f] = in[2 * f];
                high[f] = in[2 * f + 1];
            }
        else
            b_unpack(low, in, image.bits, block_bytes(&image, block));
        for (int at = 0; at < BLOCK; at += 16) {
            const u16 field = u_load_bytes(low + at);
            const u16 one = u_and(u_add(field, offset), mask);
            u16 sum = one, greatest = one;
            if (shape->pairs) {
                const u16 second = image.bits == 16 ? u_load_bytes(high + at) : u_shr(field, shape->width);
                const u16 two = u_and(u_add(second, offset), mask);
                sum = u_add(one, two);
                greatest = u_sub(sum, u_min(one, two));
            }
            u_store_bytes(levels + at, sum);
            above = u_or(above, u_and(u_less(top, greatest), u_less(u_iota((uint32_t)at), u_set((uint32_t)width))));
        }
        memcpy(task->out + block * BLOCK, levels, width);
    }
    uint32_t any[16], found = 0;
    u_store(any, above);
    for (int l = 0; l < 16; l++)
        found |= any[l];
    return found != 0;
}
