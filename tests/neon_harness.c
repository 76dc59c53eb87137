/* Runs the integer kernels at every vector level of the machine it is built for, without Python: see test_neon.py.
 * Prints a line per case and level, "case level digest", the digest of all bits of the model, bias, gradient and loss after some
 * steps; and for the two products, compared here with sums in int64, "case level exact" or "case level wrong". */
#include "integer_steps.h"
#include "products.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(ok) ((ok) ? (void)0 : (printf("line %d: %s does not hold\n", __LINE__, #ok), exit(1)))

static uint64_t state;
static uint32_t draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}
/* in [0, 1), exact in float32 */
static float draw_float(void) { return (float)(draw() >> 8) * 0x1p-24f; }

static void *room(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    CHECK(p);
    return memset(p, 0, (bytes + 127) / 64 * 64);
}

/* Extreme: all ones and all zeros, by feature; model and residuals whose low bytes are -128. Full: all ones. */
enum fill { FILL_RANDOM, FILL_EXTREME, FILL_FULL };

typedef struct {
    integer_rows rows;
    size_t count;
    uint8_t *packed, *table;
    float *vectors, *labels;
} problem;

static problem make(size_t count, size_t features, int bits, int table, enum fill fill)
{
    const size_t stride = (features * (size_t)bits + 7) / 8, padded = integer_padded(features);
    problem p = {.count = count, .packed = room(count * stride), .vectors = room(3 * padded * sizeof(float)), .labels = room(count * sizeof(float))};
    uint8_t *codes = room(padded);
    state = features * 1000 + (size_t)bits * 10 + (size_t)table;
    for (size_t r = 0; r < count; r++) {
        for (size_t f = 0; f < features; f++)
            codes[f] = (uint8_t)(fill == FILL_FULL || (fill && f % 16 < 7) ? 0xff : fill && f % 16 < 14 ? 0 : draw()) & ((1 << bits) - 1);
        for (size_t block = 0; block < code_blocks(features); block++) {
            const code_shape shape = {features, stride, bits, 1, 0};
            bits_pack(p.packed + r * stride + block_start(&shape, block), codes + block * BLOCK, bits, block_bytes(&shape, block));
        }
        p.labels[r] = fill == FILL_EXTREME ? (r ? -0.25f - 128.0f / 32639 : -1.25f) : draw_float() - 0.5f;
    }
    if (table) {
        p.table = room(features << bits);
        for (size_t i = 0; i < features << bits; i++)
            p.table[i] = fill == FILL_EXTREME ? (i & 1 ? 255 : 0) : draw() & 0xff;
    }
    for (size_t f = 0; f < features; f++) {
        const float step = fill == FILL_EXTREME ? 1 : (0.5f + draw_float()) / (float)(table ? 256 : 1 << bits);
        p.vectors[f] = fill == FILL_EXTREME ? -127 : -step * (table ? 128 : 1 << (bits - 1)) * (0.5f + draw_float());
        p.vectors[padded + f] = step;
        p.vectors[2 * padded + f] = 1 / step;
    }
    p.rows = (integer_rows){{features, stride, bits, 1, (1 << bits) - 1}, p.packed, p.vectors, p.vectors + padded, p.vectors + 2 * padded,
                            p.table, table ? (size_t)1 << bits : 0, p.labels};
    free(codes);
    return p;
}

static void drop(problem *p)
{
    free(p->packed);
    free(p->table);
    free(p->vectors);
    free(p->labels);
}

static uint64_t mix(uint64_t digest, const void *data, size_t bytes)
{
    uint32_t word;
    for (size_t i = 0; i < bytes; i += sizeof word) {
        memcpy(&word, (const uint8_t *)data + i, sizeof word);
        digest = (digest ^ word) * 0x100000001b3u;
        digest ^= digest >> 29;
    }
    return digest;
}

static void run(const problem *p, const char *name, size_t batch, int model_bits, int residual_bits, int gradient_levels, enum fill fill)
{
    const size_t features = p->rows.shape.features, padded = integer_padded(features), bytes = padded * sizeof(float);
    size_t *order = room(p->count * sizeof *order);
    float *v = room(4 * bytes), steps[64];
    for (size_t i = 0; i < p->count; i++)
        order[i] = i * 7 % p->count; /* counts are no multiples of 7 */
    for (size_t i = 0; i < 64; i++)
        steps[i] = (fill == FILL_EXTREME ? 1e-9f : 0.05f) / (float)(4 + features / batch);
    CHECK((p->count + batch - 1) / batch <= 64);
    for (int level = 0; level <= simd_best(); level++)
        for (int threads = 1; threads <= (batch * features < 32768 ? 1 : 3); threads += 2) { /* less work stays on one: threads.c */
            state = 5;
            memset(v, 0, 4 * bytes);
            for (size_t f = 0; f < features; f++) {
                v[f] = fill == FILL_EXTREME ? (f ? 128.0f / 32639 : 1) : draw_float() - 0.5f;
                v[3 * padded + f] = 0.01f * draw_float();
            }
            integer_model model = {.weights = v, .rounded = v + padded, .gradient = v + 2 * padded, .curvature = v + 3 * padded, .bias = 0.25f,
                                   .model_bits = model_bits, .residual_bits = residual_bits, .gradient_levels = gradient_levels, .seed = 77};
            uint8_t *space = room(integer_room(&p->rows, p->count, batch, level, threads));
            const integer_result result = integer_run(&p->rows, &model, order, p->count, batch, steps, space, level, threads);
            size_t alive = 0;
            for (size_t f = 0; f < features; f++)
                alive += v[2 * padded + f] != 0;
            CHECK(result.finite && 2 * alive >= features); /* a digest of zeros would say nothing */
            uint64_t digest = mix(0xcbf29ce484222325u, v, 3 * bytes);
            digest = mix(mix(digest, &model.bias, sizeof model.bias), &result.loss, sizeof result.loss);
            printf("%s-%d-%d-%d %s %016llx\n", name, model_bits, residual_bits, gradient_levels, simd_name(level), (unsigned long long)digest);
            free(space);
        }
    free(v);
    free(order);
}

enum bytes { BYTES_RANDOM, BYTES_LOWEST, BYTES_HIGHEST };
static int8_t signed_byte(enum bytes bytes)
{
    return (int8_t)(bytes == BYTES_RANDOM ? (int)(draw() % 256) - 128 : bytes == BYTES_LOWEST ? -128 : 127);
}

/* Both products of a slab, for bytes that no rounding may give, against the sums that they stand for. */
static void multiply(const problem *p, const char *name, int parts, enum bytes bytes)
{
    static uint8_t u[SLAB_ROWS];
    const size_t features = p->rows.shape.features, padded = integer_padded(features), slab = p->count < SLAB_ROWS ? p->count : SLAB_ROWS;
    int8_t *model[2] = {room(padded), room(padded)}, *placed[2] = {room(padded), room(padded)};
    int8_t residual[2][SLAB_ROWS] ALIGNED64 = {{0}};
    size_t order[SLAB_ROWS];
    const uint8_t *row[SLAB_ROWS];
    int64_t dot[SLAB_ROWS], expected[SLAB_ROWS] = {0};
    float *sums = room(padded * sizeof(float)), *wanted = room(padded * sizeof(float));
    const float scale = 0.37f;
    uint8_t *unpacked = room(slab * padded);
    for (int part = 0; part < 2; part++) {
        for (size_t f = 0; f < features; f++)
            model[part][f] = signed_byte(bytes);
        for (size_t r = 0; r < slab; r++)
            residual[part][r] = signed_byte(bytes);
    }
    for (size_t r = 0; r < slab; r++)
        for (size_t block = 0; block < code_blocks(features); block++)
            bits_unpack(unpacked + r * padded + block * BLOCK, p->packed + r * p->rows.shape.stride + block_start(&p->rows.shape, block),
                        p->rows.shape.bits, block_bytes(&p->rows.shape, block));
    for (size_t f = 0; f < features; f++) {
        int64_t sum = 0;
        for (size_t r = 0; r < slab; r++) {
            const uint8_t code = unpacked[r * padded + f];
            u[r] = p->table ? p->table[f * p->rows.pitch + code] : code;
            expected[r] += (int64_t)u[r] * (model[0][f] + (parts == 2 ? 256 * model[1][f] : 0));
            sum += (int64_t)u[r] * (residual[0][r] + (parts == 2 ? 256 * residual[1][r] : 0));
        }
        wanted[f] = scale * (float)(int32_t)sum;
    }
    for (int level = 0; level <= simd_best(); level++) {
        const product_layout layout = products_layout(&p->rows, level);
        const size_t planes = (size_t)layout.planes, width = LINE * planes;
        for (size_t f = 0; f < layout.lines * width; f++)
            for (int part = 0; part < parts; part++)
                placed[part][f / width * width + model_place(f % width / planes, f % planes)] = model[part][f];
        for (size_t r = 0; r < SLAB_ROWS; r++) {
            order[r] = r < slab ? r : slab - 1;
            row[r] = p->packed + order[r] * p->rows.shape.stride;
        }
        uint8_t *image = room(products_image_bytes(&p->rows, level));
        products_image(&p->rows, image, level);
        slab_job job = {.rows = &p->rows, .layout = layout, .order = order, .next = order, .count = slab, .next_count = slab, .row = row, .image = image,
                        .model = {{placed[0], placed[1]}, parts}, .residual = {{residual[0], residual[1]}, parts},
                        .work = room((slab + 15) / 16 * 16 * padded + LINE), .dot = dot, .scale = scale, .sums = sums};
        products_dot(&job, level);
        products_gradient(&job, level);
        int same = !memcmp(dot, expected, slab * sizeof *dot);
        for (size_t f = 0; f < layout.lines * width; f++)
            same &= sums[f / width * width + sum_place(f % width / planes, f % planes)] == wanted[f];
        printf("%s-%d-%d %s %s\n", name, parts, bytes, simd_name(level), same ? "exact" : "wrong");
        free(image);
        free(job.work);
    }
    free(unpacked);
    free(wanted);
    free(sums);
    for (int part = 0; part < 2; part++) {
        free(model[part]);
        free(placed[part]);
    }
}

static const char *const FILLS[] = {"random", "extreme", "full"};

static void all(size_t count, size_t features, int bits, int table, enum fill fill)
{
    char name[100];
    problem p = make(count, features, bits, table, fill);
    snprintf(name, sizeof name, "steps-%zux%zu-%d-%s-%s", count, features, bits, table ? "table" : "uniform", FILLS[fill]);
    run(&p, name, (count + 2) / 3, 8, 8, 0, fill);
    run(&p, name, (count + 2) / 3, 16, 16, 127, fill);
    snprintf(name, sizeof name, "products-%zux%zu-%d-%s-%s", count, features, bits, table ? "table" : "uniform", FILLS[fill]);
    for (int parts = 1; parts <= 2; parts++)
        for (enum bytes bytes = BYTES_RANDOM; bytes <= BYTES_HIGHEST; bytes++)
            multiply(&p, name, parts, bytes);
    drop(&p);
}

int main(void)
{
    static const struct { size_t count, features; } sizes[] = {{1, 1}, {37, 63}, {130, 129}, {150, 701}, {17, 1024}};
    for (int bits = 1; bits <= 8; bits++)
        for (int table = 0; table < 2; table++) {
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                all(sizes[i].count, sizes[i].features, bits, table, FILL_RANDOM);
            all(130, 257, bits, table, FILL_EXTREME);
        }
    all(4, 70001, 8, 0, FILL_EXTREME);
    problem wide = make(1, 2200000, 8, 0, FILL_FULL); /* more than 32 bits hold of a row, in any lane */
    multiply(&wide, "products-wide", 1, BYTES_LOWEST);
    multiply(&wide, "products-wide", 1, BYTES_HIGHEST);
    drop(&wide);
    return 0;
}
