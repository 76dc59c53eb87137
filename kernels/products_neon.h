/* The products with NEON. Without its dot-product instructions bytes are multiplied into 16 bits, which hold 16 products of a field
 * of up to 4 bits (16 * 15 * 128 < 2^15) or two of a byte less 128: (-128)^2 twice is 2^15, so sums of these begin at -1.
 * What was taken off is added at the end. With sdot (or usdot, unsigned by signed) four products go to 32 bits at once.
 * Rows are read as by products_avx2.h. */
#include "products_ahead.h"

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define NEON_DOT 1
#define NEON_LESS 0 /* what is taken off a byte */
#elif defined(__ARM_FEATURE_DOTPROD)
#define NEON_DOT 1
#define NEON_LESS 128
#else
#define NEON_DOT 0
#define NEON_LESS 128
#endif

static inline int planes_neon(const integer_rows *rows)
{
    const int bits = rows->shape.bits;
    return !rows->table && 8 % bits == 0 ? 8 / bits : 1;
}

/* Plane p of every byte. */
ALWAYS_INLINE uint8x16_t field_neon(uint8x16_t v, int p, int planes)
{
    const uint8x16_t t = v >> (uint8_t)(8 / planes * p); /* vshrq_n_u8 where p is known */
    return p == planes - 1 ? t : vandq_u8(t, vdupq_n_u8((uint8_t)((1 << 8 / planes) - 1)));
}

/* A field as a signed byte: less 128 where it is a whole one. */
ALWAYS_INLINE int8x16_t signed_neon(uint8x16_t v, int planes)
{
    return vreinterpretq_s8_u8(planes == 1 ? veorq_u8(v, vdupq_n_u8(NEON_LESS)) : v);
}

/* The sum of bytes. */
static inline int64_t sum_bytes_neon(const int8_t *v, size_t count)
{
    int64_t sum = 0;
    for (size_t i = 0; i < count; i += 16)
        sum += vaddlvq_s8(vld1q_s8(v + i));
    return sum;
}

#if NEON_DOT
/* sum += four products of neighbouring bytes, in each of four places */
ALWAYS_INLINE int32x4_t dot_bytes_neon(int32x4_t sum, uint8x16_t u, int8x16_t v, int planes)
{
#if defined(__ARM_FEATURE_MATMUL_INT8)
    (void)planes;
    return vusdotq_s32(sum, u, v);
#else
    return vdotq_s32(sum, signed_neon(u, planes), v);
#endif
}
#endif

/* Rows by the model. wide[part][i]: of 16-byte piece i of every line; planes have 16-bit sums of each line first. */
ALWAYS_INLINE void dot_planes_neon(const slab_job *job, int planes, int parts)
{
    const size_t lines = job->layout.lines, chunk = 8192; /* 4 bytes or 32 nibbles of a line in a lane: 8192 * 4 * 255 * 128 < 2^31 */
    int64_t less[2] = {0, 0};
    if (planes == 1)
        for (int part = 0; part < parts; part++)
            less[part] = NEON_LESS * sum_bytes_neon(job->model.part[part], lines * LINE) + (NEON_DOT ? 0 : (int64_t)(4 * 8 * lines));
    ahead next = ahead_of(job, 0, job->next_count / 2, job->count * lines);
    for (size_t r = 0; r < job->count; r++) {
        int64_t total = less[0] + 256 * less[1];
        for (size_t first = 0; first < lines; first += chunk) {
            const size_t last = lines - first < chunk ? lines : first + chunk;
            int32x4_t wide[2][4];
            for (int i = 0; i < 8; i++)
                wide[i / 4][i % 4] = vdupq_n_s32(0);
            for (size_t line = first; line < last; line++) {
#if !NEON_DOT
                int16x8_t narrow[2][2] = {{vdupq_n_s16(0), vdupq_n_s16(0)}, {vdupq_n_s16(0), vdupq_n_s16(0)}};
#endif
                UNROLL(4)
                for (size_t i = 0; i < 4; i++) {
                    const uint8x16_t v = vld1q_u8(job->row[r] + line * LINE + 16 * i);
                    UNROLL(8)
                    for (int p = 0; p < planes; p++) {
                        const uint8x16_t t = field_neon(v, p, planes);
                        const size_t at = (line * (size_t)planes + (size_t)p) * LINE + 16 * i;
                        UNROLL(2)
                        for (int part = 0; part < parts; part++) {
                            const int8x16_t q = vld1q_s8(job->model.part[part] + at);
#if NEON_DOT
                            wide[part][i] = dot_bytes_neon(wide[part][i], t, q, planes);
#else
                            const int8x16_t s = signed_neon(t, planes);
                            if (planes == 1) {
                                const int16x8_t two = vmlal_s8(vdupq_n_s16(-1), vget_low_s8(s), vget_low_s8(q));
                                wide[part][i] = vpadalq_s16(wide[part][i], vmlal_high_s8(two, s, q));
                            } else {
                                narrow[part][0] = vmlal_s8(narrow[part][0], vget_low_s8(s), vget_low_s8(q));
                                narrow[part][1] = vmlal_high_s8(narrow[part][1], s, q);
                            }
#endif
                        }
                    }
                }
#if !NEON_DOT
                if (planes > 1) /* 4 * planes products in each, 16 of nibbles in two together */
                    UNROLL(2)
                    for (int part = 0; part < parts; part++)
                        wide[part][0] = vpadalq_s16(wide[part][0], vaddq_s16(narrow[part][0], narrow[part][1]));
#endif
                ahead_turn(&next);
            }
            for (int part = 0; part < parts; part++)
                for (int i = 0; i < 4; i++)
                    total += (part ? 256 : 1) * vaddlvq_s32(wide[part][i]);
        }
        job->dot[r] = total;
    }
}

/* Sums of columns 4 q + 0..3 of 16-byte piece i, plane p. */
ALWAYS_INLINE void store_sums_neon(const slab_job *job, size_t line, size_t i, size_t q, int p, int planes, int parts, const int32x4_t *sum, int32_t less)
{
    const int32x4_t all = vaddq_s32(parts == 2 ? vaddq_s32(sum[0], vshlq_n_s32(sum[1], 8)) : sum[0], vdupq_n_s32(less));
    float *out = job->sums + LINE * (line * (size_t)planes + (size_t)p) + 16 * q + 4 * i;
    vst1q_f32(out, vmulq_f32(vdupq_n_f32(job->scale), vcvtq_f32_s32(all)));
}

#if NEON_DOT
ALWAYS_INLINE int8x16_t four_bytes_neon(const int8_t *residual)
{
    int32_t four;
    memcpy(&four, residual, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Columns 4 q + 0..3, q = from..from+columns-1, of a piece: four rows' bytes are brought together as in products_avx512.h. */
ALWAYS_INLINE void gradient_piece_neon(const slab_job *job, size_t line, size_t i, int planes, int parts, int from, int columns, int32_t less)
{
    const size_t at = line * LINE + 16 * i;
    int32x4_t sum[16];
    UNROLL(16)
    for (int j = 0; j < columns * planes * parts; j++)
        sum[j] = vdupq_n_s32(0);
    for (size_t r = 0; r < job->count; r += 4) {
        const uint8x16_t a = vld1q_u8(job->row[r] + at), b = vld1q_u8(job->row[r + 1] + at);
        const uint8x16_t c = vld1q_u8(job->row[r + 2] + at), d = vld1q_u8(job->row[r + 3] + at);
        const uint16x8_t ab = vreinterpretq_u16_u8(vzip1q_u8(a, b)), AB = vreinterpretq_u16_u8(vzip2q_u8(a, b));
        const uint16x8_t cd = vreinterpretq_u16_u8(vzip1q_u8(c, d)), CD = vreinterpretq_u16_u8(vzip2q_u8(c, d));
        const uint16x8_t x[4] = {vzip1q_u16(ab, cd), vzip2q_u16(ab, cd), vzip1q_u16(AB, CD), vzip2q_u16(AB, CD)};
        UNROLL(2)
        for (int part = 0; part < parts; part++) {
            const int8x16_t e = four_bytes_neon(job->residual.part[part] + r);
            UNROLL(4)
            for (int q = 0; q < columns; q++)
                UNROLL(8)
                for (int p = 0; p < planes; p++) {
                    int32x4_t *s = sum + (q * planes + p) * parts + part;
                    *s = dot_bytes_neon(*s, field_neon(vreinterpretq_u8_u16(x[from + q]), p, planes), e, planes);
                }
        }
    }
    UNROLL(4)
    for (int q = 0; q < columns; q++)
        UNROLL(8)
        for (int p = 0; p < planes; p++)
            store_sums_neon(job, line, i, (size_t)(from + q), p, planes, parts, sum + (q * planes + p) * parts, less);
}
#else
/* Planes from..from+few-1 of a piece. */
ALWAYS_INLINE void gradient_piece_neon(const slab_job *job, size_t line, size_t i, int planes, int parts, int from, int few, int32_t less)
{
    const size_t at = line * LINE + 16 * i, rows = planes == 1 ? 2 : 16; /* whose products 16 bits hold */
    int32x4_t wide[4][8]; /* [q][plane, part] */
    UNROLL(4)
    for (int q = 0; q < 4; q++)
        UNROLL(8)
        for (int j = 0; j < few * parts; j++)
            wide[q][j] = vdupq_n_s32(0);
    for (size_t first = 0; first < job->count; first += rows) {
        int16x8_t narrow[2][8];
        UNROLL(8)
        for (int j = 0; j < few * parts; j++)
            narrow[0][j] = narrow[1][j] = vdupq_n_s16(planes == 1 ? -1 : 0);
        for (size_t r = first; r < first + rows; r++) {
            const uint8x16_t v = vld1q_u8(job->row[r] + at);
            UNROLL(4)
            for (int p = 0; p < few; p++) {
                const int8x16_t s = signed_neon(field_neon(v, from + p, planes), planes);
                UNROLL(2)
                for (int part = 0; part < parts; part++) {
                    const int8x8_t e = vld1_dup_s8(job->residual.part[part] + r);
                    const int j = p * parts + part;
                    narrow[0][j] = vmlal_s8(narrow[0][j], vget_low_s8(s), e);
                    narrow[1][j] = vmlal_s8(narrow[1][j], vget_high_s8(s), e);
                }
            }
        }
        UNROLL(8)
        for (int j = 0; j < few * parts; j++)
            UNROLL(2)
            for (int half = 0; half < 2; half++) {
                wide[2 * half][j] = vaddw_s16(wide[2 * half][j], vget_low_s16(narrow[half][j]));
                wide[2 * half + 1][j] = vaddw_high_s16(wide[2 * half + 1][j], narrow[half][j]);
            }
    }
    UNROLL(4)
    for (int q = 0; q < 4; q++)
        UNROLL(4)
        for (int p = 0; p < few; p++)
            store_sums_neon(job, line, i, (size_t)q, from + p, planes, parts, wide[q] + p * parts, less);
}
#endif

/* Residuals by rows. A piece is worked on in turns: of columns with dot products, of planes without. */
ALWAYS_INLINE void gradient_planes_neon(const slab_job *job, int planes, int parts)
{
    const int all = NEON_DOT ? 4 : planes, held = NEON_DOT ? 16 / (planes * parts) : 4 / parts; /* in registers */
    const int each = held < all ? held : all;
    const size_t lines = job->layout.lines, padded = (job->count + 15) / 16 * 16;
    int64_t less = 0; /* at most 128 * 128 * 32767 */
    if (planes == 1)
        for (int part = 0; part < parts; part++)
            less += (part ? 256 : 1) * (NEON_LESS * sum_bytes_neon(job->residual.part[part], padded) + (NEON_DOT ? 0 : (int64_t)(job->count + 1) / 2));
    ahead next = ahead_of(job, job->next_count / 2, job->next_count, lines * 4 * (size_t)(all / each));
    for (size_t line = 0; line < lines; line++)
        for (size_t i = 0; i < 4; i++)
            UNROLL(4)
            for (int from = 0; from < all; from += each) {
                gradient_piece_neon(job, line, i, planes, parts, from, each, (int32_t)less);
                ahead_turn(&next);
            }
}

#define EACH_LAYOUT(product, parts) \
    switch (job->layout.planes) { \
    case 1: parts == 2 ? product(job, 1, 2) : product(job, 1, 1); break; \
    case 2: parts == 2 ? product(job, 2, 2) : product(job, 2, 1); break; \
    case 4: parts == 2 ? product(job, 4, 2) : product(job, 4, 1); break; \
    default: parts == 2 ? product(job, 8, 2) : product(job, 8, 1); \
    }

static void dot_neon(const slab_job *job)
{
    settle_rows(job);
    EACH_LAYOUT(dot_planes_neon, job->model.parts)
}

static void gradient_neon(const slab_job *job) { EACH_LAYOUT(gradient_planes_neon, job->residual.parts) }
#undef EACH_LAYOUT
