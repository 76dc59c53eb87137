/* The products with AVX-512 VNNI and VBMI. Affine codes of 1, 2, 4, 8 bits stay packed: a byte's planes are masked where they
 * are, and what a plane adds is shifted down at the end. Other widths are unpacked to bytes. Tables of up to 64 entries are looked
 * up in tiles of 16 rows by 4 features: see tile_dot. vpdpbusd adds products of 4 neighbouring bytes into 32 bits. */
#include "products_ahead.h"

#define IN512 ALWAYS_INLINE TARGET_avx512
#define CHUNK 1024 /* lines: 65536 features * 255 * 128 < 2^31, so a row's sum over them fits in 32 bits */
#define GROUP 16   /* rows that are reduced together */

enum fetch { FETCH_PACKED, FETCH_UNPACKED, FETCH_READY }; /* planes as they are; one code a byte; done beforehand */

static inline int planes_avx512(const integer_rows *rows)
{
    const int bits = rows->shape.bits;
    if (rows->table)
        return bits == 4 ? 2 : 1;
    return 8 % bits == 0 ? 8 / bits : 1;
}

/* sums[i] = the sum of v[i]'s lanes */
IN512 __m512i sum_lanes(__m512i v[16])
{
    UNROLL(8)
    for (int i = 0; i < 8; i++)
        v[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    UNROLL(4)
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        v[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0x88), _mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(v[0], v[1], 0x88), _mm512_shuffle_i32x4(v[0], v[1], 0xdd));
}

/* dot[0..15] += 2^shift * sums */
IN512 void add_sums(int64_t *dot, __m512i sums, unsigned shift)
{
    UNROLL(2)
    for (int half = 0; half < 2; half++) {
        const __m256i part = half ? _mm512_extracti64x4_epi64(sums, 1) : _mm512_castsi512_si256(sums);
        const __m512i wide = _mm512_slli_epi64(_mm512_cvtepi32_epi64(part), shift);
        _mm512_storeu_si512(dot + 8 * half, _mm512_add_epi64(_mm512_loadu_si512(dot + 8 * half), wide));
    }
}

/* What 64-byte line `line` of a packed row holds, as bytes of `planes` codes. */
IN512 __m512i fetch_line(const uint8_t *row, size_t line, size_t bytes, int bits, enum fetch fetch, __m512i order)
{
    const size_t width = fetch == FETCH_UNPACKED ? 8 * (size_t)bits : LINE, start = line * width;
    const size_t rest = bytes - start < width ? bytes - start : width;
    const __m512i v = _mm512_maskz_loadu_epi8(~(__mmask64)0 >> (64 - rest), row + start);
    if (fetch == FETCH_PACKED)
        return v;
    const __m512i shifts = _mm512_set1_epi64((long long)(0x0706050403020100ull * (unsigned)bits));
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(order, v)), _mm512_set1_epi8((char)((1 << bits) - 1)));
}

/* For vpermb: the `bits` bytes of eight codes into each 64-bit word. */
IN512 __m512i unpack_order_512(int bits)
{
    uint8_t order[64] ALIGNED64;
    for (int i = 0; i < 64; i++)
        order[i] = (uint8_t)(i / 8 * bits + (i % 8 < bits ? i % 8 : bits - 1));
    return _mm512_load_si512(order);
}

/* Lines first..last-1 of `rows` rows: v[part * 16 + row] = 16 sums of codes by model. Leaves unpacked rows in `work`. */
IN512 void dot_lines(const slab_job *job, const uint8_t *const *row, uint8_t *work, size_t first, size_t last, int planes, int parts, int rows,
                     int bits, enum fetch fetch, __m512i order, ahead *next, __m512i *v)
{
    const size_t pitch = job->layout.lines * LINE, bytes = (job->rows->shape.features * (size_t)job->rows->shape.bits + 7) / 8;
    __m512i sum[16];
    UNROLL(16)
    for (int i = 0; i < rows * planes * parts; i++)
        sum[i] = _mm512_setzero_si512();
    for (size_t line = first; line < last; line++) {
        const int8_t *model = job->model.part[0] + line * LINE * (size_t)planes;
        const int8_t *high = job->model.part[1] + line * LINE * (size_t)planes;
        UNROLL(16)
        for (int r = 0; r < rows; r++) {
            __m512i u;
            if (fetch == FETCH_READY) {
                u = _mm512_load_si512(work + (size_t)r * pitch + line * LINE);
            } else {
                u = fetch_line(row[r], line, bytes, bits, fetch, order);
                if (fetch == FETCH_UNPACKED)
                    _mm512_store_si512(work + (size_t)r * pitch + line * LINE, u);
            }
            UNROLL(8)
            for (int p = 0; p < planes; p++) {
                const __m512i t = planes == 1 ? u : _mm512_and_si512(u, _mm512_set1_epi8((char)(((1 << bits) - 1) << (bits * p))));
                __m512i *s = sum + (r * planes + p) * parts;
                s[0] = _mm512_dpbusd_epi32(s[0], t, _mm512_load_si512(model + LINE * p));
                if (parts == 2)
                    s[1] = _mm512_dpbusd_epi32(s[1], t, _mm512_load_si512(high + LINE * p));
            }
        }
        ahead_turn(next);
    }
    UNROLL(16)
    for (int r = 0; r < rows; r++)
        UNROLL(2)
        for (int part = 0; part < parts; part++) {
            __m512i s = sum[r * planes * parts + part];
            UNROLL(8)
            for (int p = 1; p < planes; p++)
                s = _mm512_add_epi32(s, _mm512_srai_epi32(sum[(r * planes + p) * parts + part], (unsigned)(bits * p)));
            v[part * GROUP + r] = s;
        }
}

IN512 void dot_512(const slab_job *job, int planes, int parts, enum fetch fetch)
{
    const int bits = planes == 1 ? job->rows->shape.bits : 8 / planes, rows = GROUP / (planes * parts) ? GROUP / (planes * parts) : 1;
    const size_t lines = job->layout.lines, pitch = lines * LINE;
    const size_t groups = (job->count + GROUP - 1) / GROUP;
    const __m512i order = fetch == FETCH_UNPACKED ? unpack_order_512(bits) : _mm512_setzero_si512();
    ahead next = ahead_of(job, 0, job->next_count / 2, groups * (size_t)(GROUP / rows) * lines);
    for (size_t g = 0; g < job->count; g += GROUP) {
        memset(job->dot + g, 0, GROUP * sizeof *job->dot);
        for (size_t first = 0; first < lines; first += CHUNK) {
            const size_t last = lines - first < CHUNK ? lines : first + CHUNK;
            __m512i v[2 * GROUP];
            for (int r = 0; r < GROUP; r += rows)
                dot_lines(job, job->row + g + r, job->work + (g + (size_t)r) * pitch, first, last, planes, parts, rows, bits, fetch, order, &next, v + r);
            add_sums(job->dot + g, sum_lanes(v), 0);
            if (parts == 2)
                add_sums(job->dot + g, sum_lanes(v + GROUP), 8);
        }
    }
}

/* Four rows' bytes brought together: dwords of one byte column each; x[q] has columns 16 L + 4 q + 0..3 in its 128-bit lane L. */
IN512 void interleave_rows(__m512i a, __m512i b, __m512i c, __m512i d, __m512i x[4])
{
    const __m512i ab = _mm512_unpacklo_epi8(a, b), AB = _mm512_unpackhi_epi8(a, b);
    const __m512i cd = _mm512_unpacklo_epi8(c, d), CD = _mm512_unpackhi_epi8(c, d);
    x[0] = _mm512_unpacklo_epi16(ab, cd);
    x[1] = _mm512_unpackhi_epi16(ab, cd);
    x[2] = _mm512_unpacklo_epi16(AB, CD);
    x[3] = _mm512_unpackhi_epi16(AB, CD);
}

IN512 __m512i four_bytes(const int8_t *residual)
{
    int32_t four;
    memcpy(&four, residual, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Columns [q][lane][0..3], q = from..from+columns-1, of one line. Plane p's sums come as those of planes >= p, less those of planes > p. */
IN512 void gradient_line(const slab_job *job, size_t line, int planes, int parts, int from, int columns, int bits, int packed, ahead *next)
{
    const size_t pitch = job->layout.lines * LINE, rest = (job->rows->shape.features * (size_t)bits + 7) / 8 - line * LINE;
    const __mmask64 mask = rest < LINE ? ~(__mmask64)0 >> (64 - rest) : ~(__mmask64)0;
    const uint8_t *const *row = job->row;
    const uint8_t *work = job->work + line * LINE;
    const __m512 scale = _mm512_set1_ps(job->scale);
    float *out = job->sums + line * LINE * (size_t)planes;
    __m512i sum[16];
    UNROLL(16)
    for (int i = 0; i < columns * planes * parts; i++)
        sum[i] = _mm512_setzero_si512();
    for (size_t r = 0; r < job->count; r += 4) {
        __m512i v[4], x[4];
        UNROLL(4)
        for (size_t i = 0; i < 4; i++)
            v[i] = packed ? _mm512_maskz_loadu_epi8(mask, row[r + i] + line * LINE) : _mm512_load_si512(work + (r + i) * pitch);
        interleave_rows(v[0], v[1], v[2], v[3], x);
        const __m512i low = four_bytes(job->residual.part[0] + r);
        const __m512i high = parts == 2 ? four_bytes(job->residual.part[1] + r) : low;
        UNROLL(4)
        for (int q = 0; q < columns; q++)
            UNROLL(8)
            for (int p = 0; p < planes; p++) {
                const __m512i t = p ? _mm512_and_si512(x[from + q], _mm512_set1_epi8((char)(0xff << (bits * p)))) : x[from + q];
                __m512i *s = sum + (q * planes + p) * parts;
                s[0] = _mm512_dpbusd_epi32(s[0], t, low);
                if (parts == 2)
                    s[1] = _mm512_dpbusd_epi32(s[1], t, high);
            }
        ahead_turn(next);
    }
    UNROLL(4)
    for (int q = 0; q < columns; q++) {
        __m512i above = _mm512_setzero_si512();
        UNROLL(8)
        for (int p = planes - 1; p >= 0; p--) {
            const __m512i *s = sum + (q * planes + p) * parts;
            const __m512i all = parts == 2 ? _mm512_add_epi32(s[0], _mm512_slli_epi32(s[1], 8)) : s[0];
            const __m512i own = _mm512_srai_epi32(_mm512_sub_epi32(all, above), (unsigned)(bits * p));
            above = all;
            _mm512_storeu_ps(out + LINE * p + 16 * (from + q), _mm512_mul_ps(scale, _mm512_cvtepi32_ps(own)));
        }
    }
}

IN512 void gradient_512(const slab_job *job, int planes, int parts, int packed)
{
    const int bits = 8 / planes, columns = planes * parts <= 4 ? 4 : planes * parts == 8 ? 2 : 1;
    const size_t lines = job->layout.lines, steps = (job->count + 3) / 4;
    ahead next = ahead_of(job, job->next_count / 2, job->next_count, lines * steps * (size_t)(4 / columns));
    for (size_t line = 0; line < lines; line++)
        UNROLL(4)
        for (int from = 0; from < 4; from += columns)
            gradient_line(job, line, planes, parts, from, columns, bits, packed, &next);
}

/* ---- Tables: tiles of 16 rows (dwords) by 4 features (their bytes) ---- */

/* Log2 of the entries that a feature has in the image. */
static inline int entry_bits_512(int bits) { return bits < 4 ? 4 : bits; }

/* Tables of the 4 features of a tile side by side: [line][plane][tile][feature][entry]. */
static void image_avx512(const integer_rows *rows, uint8_t *image)
{
    const int planes = planes_avx512(rows), bits = rows->shape.bits, log = entry_bits_512(bits);
    const size_t width = LINE * (size_t)planes, padded = (rows->shape.features + width - 1) / width * width;
    if (bits > 6)
        return;
    memset(image, 0, padded << log);
    for (size_t f = 0; f < rows->shape.features; f++) {
        const size_t at = f % width, place = f / width * width + model_place(at / (size_t)planes, at % (size_t)planes);
        memcpy(image + (place << log), rows->table + f * rows->pitch, (size_t)1 << bits);
    }
}

/* Dword c of row r to dword r of tile c. */
IN512 void transpose_rows(__m512i r[16])
{
    __m512i t[16];
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* Half p of every byte, below the upper half that `above` has: the feature's place in its tile. */
IN512 __m512i nibble_of(__m512i codes, int p, __m512i above)
{
    return _mm512_ternarylogic_epi32(p ? _mm512_srli_epi16(codes, 4) : codes, _mm512_set1_epi8(15), above, 0xea);
}

/* Entries that the codes of a tile name; where a feature has 16, half p of every byte is the code. */
IN512 __m512i look_up(__m512i codes, int p, const uint8_t *image, int log)
{
    const __m512i a = _mm512_load_si512(image);
    if (log == 4)
        return _mm512_permutexvar_epi8(nibble_of(codes, p, _mm512_set1_epi32(0x30201000)), a);
    if (log == 5)
        return _mm512_permutex2var_epi8(a, _mm512_or_si512(codes, _mm512_set1_epi32(0x60402000)), _mm512_load_si512(image + 64));
    const __m512i at = _mm512_or_si512(codes, _mm512_set1_epi32(0x40004000));
    const __m512i first = _mm512_permutex2var_epi8(a, at, _mm512_load_si512(image + 64));
    const __m512i second = _mm512_permutex2var_epi8(_mm512_load_si512(image + 128), at, _mm512_load_si512(image + 192));
    return _mm512_mask_mov_epi8(first, 0xccccccccccccccccull, second);
}

/* Leaves the entries in `work`, [16 rows][line][tile], four rows of a feature side by side; of two planes, their codes: half the
 * bytes, to be looked up again. Asks for all of the next slab: the gradient takes too little of the time. */
IN512 void tile_dot(const slab_job *job, int planes, int parts, int log)
{
    const int bits = job->rows->shape.bits;
    const size_t lines = job->layout.lines, groups = (job->count + GROUP - 1) / GROUP;
    const size_t bytes = (job->rows->shape.features * (size_t)bits + 7) / 8;
    const __m512i order = unpack_order_512(bits);
    const __m512i by_feature = _mm512_broadcast_i32x4(_mm_set_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400));
    ahead next = ahead_of(job, 0, job->next_count, groups * lines * 4);
    for (size_t g = 0; g < groups; g++) {
        memset(job->dot + g * GROUP, 0, GROUP * sizeof *job->dot);
        for (size_t first = 0; first < lines; first += CHUNK / 4) { /* a lane sums a whole row here */
            const size_t last = lines - first < CHUNK / 4 ? lines : first + CHUNK / 4;
            __m512i sum[4];
            for (int i = 0; i < 4; i++)
                sum[i] = _mm512_setzero_si512();
            for (size_t line = first; line < last; line++) {
                __m512i tile[16];
                UNROLL(16)
                for (int r = 0; r < GROUP; r++)
                    tile[r] = fetch_line(job->row[g * GROUP + (size_t)r], line, bytes, bits, planes == 2 ? FETCH_PACKED : FETCH_UNPACKED, order);
                transpose_rows(tile);
                UNROLL(16)
                for (size_t c = 0; c < 16; c++) {
                    uint8_t *work = job->work + ((g * lines + line) * 16 + c) * LINE;
                    if (planes == 2)
                        _mm512_store_si512(work, _mm512_shuffle_epi8(tile[c], by_feature));
                    UNROLL(2)
                    for (int p = 0; p < planes; p++) {
                        const size_t place = (line * (size_t)planes + (size_t)p) * LINE + 4 * c;
                        const __m512i u = look_up(tile[c], p, job->image + (place << log), log);
                        sum[p] = _mm512_dpbusd_epi32(sum[p], u, four_bytes(job->model.part[0] + place));
                        if (parts == 2)
                            sum[2 + p] = _mm512_dpbusd_epi32(sum[2 + p], u, four_bytes(job->model.part[1] + place));
                        if (planes == 1)
                            _mm512_store_si512(work, _mm512_shuffle_epi8(u, by_feature));
                    }
                    if (c % 4 == 3)
                        ahead_turn(&next);
                }
            }
            add_sums(job->dot + g * GROUP, _mm512_add_epi32(sum[0], sum[1]), 0);
            if (parts == 2)
                add_sums(job->dot + g * GROUP, _mm512_add_epi32(sum[2], sum[3]), 8);
        }
    }
}

/* Lane i = the sum of v[i]'s 128-bit lanes. */
IN512 __m512i add_lanes(const __m512i v[4])
{
    const __m512i a = _mm512_add_epi32(_mm512_shuffle_i32x4(v[0], v[1], 0x88), _mm512_shuffle_i32x4(v[0], v[1], 0xdd));
    const __m512i b = _mm512_add_epi32(_mm512_shuffle_i32x4(v[2], v[3], 0x88), _mm512_shuffle_i32x4(v[2], v[3], 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

IN512 void tile_gradient(const slab_job *job, int planes, int parts)
{
    const size_t groups = (job->count + GROUP - 1) / GROUP, lines = job->layout.lines;
    const __m512i above = _mm512_broadcast_i32x4(_mm_set_epi32(0x30303030, 0x20202020, 0x10101010, 0));
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512 scale = _mm512_set1_ps(job->scale);
    __m512i residual[2][SLAB_ROWS / GROUP];
    for (int part = 0; part < parts; part++)
        for (size_t g = 0; g < groups; g++) {
            const __m128i rows = _mm_loadu_si128((const __m128i *)(job->residual.part[part] + g * GROUP));
            residual[part][g] = _mm512_permutexvar_epi32(spread, _mm512_castsi128_si512(rows));
        }
    for (size_t line = 0; line < lines; line++)
        for (size_t q = 0; q < 4; q++) {
            __m512i sum[2][2][4]; /* [plane][part] */
            UNROLL(4)
            for (size_t c = 0; c < 4; c++) {
                const uint8_t *work = job->work + (line * 16 + 4 * c + q) * LINE;
                __m512i image[2];
                UNROLL(2)
                for (int p = 0; p < planes; p++) {
                    sum[p][0][c] = sum[p][1][c] = _mm512_setzero_si512();
                    if (planes == 2)
                        image[p] = _mm512_load_si512(job->image + ((line * 2 + (size_t)p) * LINE + 16 * c + 4 * q) * 16);
                }
                for (size_t g = 0; g < groups; g++) {
                    const __m512i v = _mm512_load_si512(work + g * lines * 16 * LINE);
                    UNROLL(2)
                    for (int p = 0; p < planes; p++) {
                        const __m512i u = planes == 2 ? _mm512_permutexvar_epi8(nibble_of(v, p, above), image[p]) : v;
                        sum[p][0][c] = _mm512_dpbusd_epi32(sum[p][0][c], u, residual[0][g]);
                        if (parts == 2)
                            sum[p][1][c] = _mm512_dpbusd_epi32(sum[p][1][c], u, residual[1][g]);
                    }
                }
            }
            UNROLL(2)
            for (int p = 0; p < planes; p++) {
                __m512i all = add_lanes(sum[p][0]);
                if (parts == 2)
                    all = _mm512_add_epi32(all, _mm512_slli_epi32(add_lanes(sum[p][1]), 8));
                float *out = job->sums + (line * (size_t)planes + (size_t)p) * LINE + 16 * q;
                _mm512_storeu_ps(out, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(all)));
            }
        }
}

TARGET_avx512 static void dot_avx512(const slab_job *job)
{
    const int parts = job->model.parts;
    const int fetch = job->rows->shape.bits % 8 && 8 % job->rows->shape.bits;
#define DOT(planes, fetch) (parts == 2 ? dot_512(job, planes, 2, fetch) : dot_512(job, planes, 1, fetch))
#define TILES(planes, log) (parts == 2 ? tile_dot(job, planes, 2, log) : tile_dot(job, planes, 1, log))
    if (job->rows->table && job->rows->shape.bits <= 6) {
        if (job->rows->shape.bits == 4)
            TILES(2, 4);
        else if (job->rows->shape.bits < 4)
            TILES(1, 4);
        else if (job->rows->shape.bits == 5)
            TILES(1, 5);
        else
            TILES(1, 6);
    } else if (job->rows->table) {
        for (size_t r = 0; r < job->count; r++)
            fetch_bytes(job->rows, job->order[r], job->layout.lines, job->work + r * job->layout.lines * LINE);
        DOT(1, FETCH_READY);
    } else if (fetch) {
        DOT(1, FETCH_UNPACKED);
    } else {
        switch (job->layout.planes) {
        case 1: DOT(1, FETCH_PACKED); break;
        case 2: DOT(2, FETCH_PACKED); break;
        case 4: DOT(4, FETCH_PACKED); break;
        default: DOT(8, FETCH_PACKED);
        }
    }
#undef DOT
#undef TILES
}

TARGET_avx512 static void gradient_avx512(const slab_job *job)
{
    const int parts = job->residual.parts;
    if (job->rows->table && job->rows->shape.bits <= 6) {
#define TILES(planes) (parts == 2 ? tile_gradient(job, planes, 2) : tile_gradient(job, planes, 1))
        if (job->rows->shape.bits == 4)
            TILES(2);
        else
            TILES(1);
#undef TILES
        return;
    }
#define GRADIENT(planes, packed) (parts == 2 ? gradient_512(job, planes, 2, packed) : gradient_512(job, planes, 1, packed))
    switch (job->layout.planes) {
    case 1:
        if (job->rows->table || job->rows->shape.bits < 8)
            GRADIENT(1, 0);
        else
            GRADIENT(1, 1);
        break;
    case 2: GRADIENT(2, 1); break;
    case 4: GRADIENT(4, 1); break;
    default: GRADIENT(8, 1);
    }
#undef GRADIENT
}
