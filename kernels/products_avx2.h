/* The products with AVX2. vpmaddubsw adds two products of unsigned and signed bytes into 16 bits, saturating: so codes come in
 * nibbles, 15 * 128 * 2 = 3840 at most, of which 8 fit before 16 bits are widened to 32. Codes of 8 bits are two nibbles with the
 * same weight. Rows are read where they lie if whole 64-byte lines; else from `work`, where they are copied or unpacked. */
#include "products_ahead.h"

#define IN256 ALWAYS_INLINE TARGET_avx2
#define NARROW 8 /* sums of two products that 16 bits hold */

static inline int planes_avx2(const integer_rows *rows)
{
    const int bits = rows->shape.bits;
    return !rows->table && 8 % bits == 0 ? 8 / bits : 1;
}

/* Field p of every byte: planes of codes, or the nibbles of one code. */
IN256 __m256i field_256(__m256i v, int p, int bits)
{
    return _mm256_and_si256(p ? _mm256_srli_epi16(v, bits * p) : v, _mm256_set1_epi8((char)((1 << bits) - 1)));
}

IN256 __m256i load_256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* sum += 2^shift * (pairs of neighbouring 16-bit sums) */
IN256 __m256i widen_256(__m256i sum, __m256i narrow, int shift)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, _mm256_set1_epi16((short)(1 << shift))));
}

IN256 int64_t sum_256(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* `fields` of `bits` bits a byte: planes, or 2 nibbles of one plane. */
IN256 void dot_256(const slab_job *job, int fields, int planes, int parts)
{
    const int bits = 8 / fields, shift = planes < fields ? bits : 0, sums = shift ? 2 : 1; /* sums: of low, of high nibbles */
    const size_t lines = job->layout.lines, chunk = 1024, few = NARROW / (2 * (size_t)fields) ? NARROW / (2 * (size_t)fields) : 1;
    ahead next = ahead_of(job, 0, job->next_count / 2, job->count * ((lines + few - 1) / few));
    for (size_t r = 0; r < job->count; r++) {
        int64_t total = 0;
        for (size_t first = 0; first < lines; first += chunk) {
            const size_t last = lines - first < chunk ? lines : first + chunk;
            __m256i wide[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
            for (size_t from = first; from < last; from += few) {
                const size_t to = last - from < few ? last : from + few;
                __m256i narrow[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
                for (size_t line = from; line < to; line++)
                    UNROLL(2)
                    for (size_t half = 0; half < LINE; half += 32) {
                        const __m256i v = load_256(job->row[r] + line * LINE + half);
                        UNROLL(8)
                        for (int p = 0; p < fields; p++) {
                            const __m256i t = field_256(v, p, bits);
                            const size_t at = line * LINE * (size_t)planes + LINE * (size_t)(shift ? 0 : p) + half;
                            UNROLL(2)
                            for (int part = 0; part < parts; part++) {
                                __m256i *s = narrow + part * sums + (shift ? p : 0);
                                *s = _mm256_add_epi16(*s, _mm256_maddubs_epi16(t, load_256(job->model.part[part] + at)));
                            }
                        }
                    }
                UNROLL(2)
                for (int part = 0; part < parts; part++)
                    UNROLL(2)
                    for (int s = 0; s < sums; s++)
                        wide[part] = widen_256(wide[part], narrow[part * sums + s], s * shift);
                ahead_turn(&next);
            }
            total += sum_256(wide[0]);
            if (parts == 2)
                total += 256 * sum_256(wide[1]);
        }
        job->dot[r] = total;
    }
}

IN256 __m256i four_bytes_256(const int8_t *residual)
{
    int32_t four;
    memcpy(&four, residual, sizeof four);
    return _mm256_set1_epi32(four);
}

/* Columns q = from..from+columns-1 of half a line; four rows' bytes are brought together as in products_avx512.h. */
IN256 void gradient_half(const slab_job *job, size_t line, size_t half, int fields, int planes, int parts, int from, int columns, ahead *next)
{
    const int bits = 8 / fields, shift = planes < fields ? bits : 0;
    const size_t at = line * LINE + half, rows = (job->count + 3) / 4 * 4;
    const __m256 scale = _mm256_set1_ps(job->scale);
    __m256i wide[16];
    UNROLL(16)
    for (int i = 0; i < columns * planes * parts; i++)
        wide[i] = _mm256_setzero_si256();
    for (size_t first = 0; first < rows; first += 4 * NARROW) {
        const size_t last = rows - first < 4 * NARROW ? rows : first + 4 * NARROW;
        __m256i narrow[16];
        UNROLL(16)
        for (int i = 0; i < columns * fields * parts; i++)
            narrow[i] = _mm256_setzero_si256();
        for (size_t r = first; r < last; r += 4) {
            const __m256i a = load_256(job->row[r] + at), b = load_256(job->row[r + 1] + at);
            const __m256i c = load_256(job->row[r + 2] + at), d = load_256(job->row[r + 3] + at);
            const __m256i ab = _mm256_unpacklo_epi8(a, b), AB = _mm256_unpackhi_epi8(a, b);
            const __m256i cd = _mm256_unpacklo_epi8(c, d), CD = _mm256_unpackhi_epi8(c, d);
            const __m256i x[4] = {_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd), _mm256_unpacklo_epi16(AB, CD),
                                  _mm256_unpackhi_epi16(AB, CD)};
            UNROLL(2)
            for (int part = 0; part < parts; part++) {
                const __m256i e = four_bytes_256(job->residual.part[part] + r);
                UNROLL(4)
                for (int q = 0; q < columns; q++)
                    UNROLL(8)
                    for (int p = 0; p < fields; p++) {
                        __m256i *s = narrow + (q * fields + p) * parts + part;
                        *s = _mm256_add_epi16(*s, _mm256_maddubs_epi16(field_256(x[from + q], p, bits), e));
                    }
            }
            ahead_turn(next);
        }
        UNROLL(4)
        for (int q = 0; q < columns; q++)
            UNROLL(8)
            for (int p = 0; p < fields; p++)
                UNROLL(2)
                for (int part = 0; part < parts; part++) {
                    __m256i *w = wide + (q * planes + (shift ? 0 : p)) * parts + part;
                    *w = widen_256(*w, narrow[(q * fields + p) * parts + part], shift * p);
                }
    }
    UNROLL(4)
    for (int q = 0; q < columns; q++)
        UNROLL(8)
        for (int p = 0; p < planes; p++) {
            const __m256i *w = wide + (q * planes + p) * parts;
            const __m256i all = parts == 2 ? _mm256_add_epi32(w[0], _mm256_slli_epi32(w[1], 8)) : w[0];
            float *out = job->sums + LINE * (line * (size_t)planes + (size_t)p) + 16 * (size_t)(from + q) + half / 4;
            _mm256_storeu_ps(out, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(all)));
        }
}

IN256 void gradient_256(const slab_job *job, int fields, int planes, int parts)
{
    const int most = 8 / (fields * parts), columns = most > 4 ? 4 : most < 1 ? 1 : most;
    const size_t lines = job->layout.lines, steps = (job->count + 3) / 4;
    ahead next = ahead_of(job, job->next_count / 2, job->next_count, 2 * lines * steps * (size_t)(4 / columns));
    for (size_t line = 0; line < lines; line++)
        for (size_t half = 0; half < LINE; half += 32)
            UNROLL(4)
            for (int from = 0; from < 4; from += columns)
                gradient_half(job, line, half, fields, planes, parts, from, columns, &next);
}

#define EACH_LAYOUT(product, parts) \
    switch (job->layout.planes) { \
    case 1: parts == 2 ? product(job, 2, 1, 2) : product(job, 2, 1, 1); break; \
    case 2: parts == 2 ? product(job, 2, 2, 2) : product(job, 2, 2, 1); break; \
    case 4: parts == 2 ? product(job, 4, 4, 2) : product(job, 4, 4, 1); break; \
    default: parts == 2 ? product(job, 8, 8, 2) : product(job, 8, 8, 1); \
    }

TARGET_avx2 static void dot_avx2(const slab_job *job)
{
    settle_rows(job);
    EACH_LAYOUT(dot_256, job->model.parts)
}

TARGET_avx2 static void gradient_avx2(const slab_job *job) { EACH_LAYOUT(gradient_256, job->residual.parts) }
#undef EACH_LAYOUT
