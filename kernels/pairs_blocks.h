/* 8 columns by 32: sums of products of bytes, four rows to a word, at each level: see pairs.c. `a`: at the first of 8 columns of a
 * panel; `b`: two panels; sum_a: of a's bytes; out[8][pitch]. All levels: out[i][j] = sum over rows of a_i b_j. */
#define BLOCK_ROWS 8

static void gram_block_scalar(const uint32_t *a, const uint32_t *b, size_t quads, const int64_t *sum_a, int64_t *out, size_t pitch)
{
    (void)sum_a;
    for (size_t i = 0; i < BLOCK_ROWS; i++)
        for (size_t j = 0; j < 2 * PANEL; j++) {
            const uint32_t *own = b + (j / PANEL) * QUADS * PANEL + j % PANEL;
            uint32_t sum = 0;
            for (size_t q = 0; q < quads; q++)
                for (int k = 0; k < 32; k += 8)
                    sum += (a[q * PANEL + i] >> k & 255) * (own[q * PANEL] >> k & 255);
            out[i * pitch + j] = sum;
        }
}

#if ZIPML_NEON
static void gram_block_neon(const uint32_t *a, const uint32_t *b, size_t quads, const int64_t *sum_a, int64_t *out, size_t pitch)
{
    (void)sum_a;
    for (size_t i = 0; i < BLOCK_ROWS; i++)
        for (size_t panel = 0; panel < 2; panel++) {
            uint32x4_t sum[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
            for (size_t q = 0; q < quads; q++) {
                const uint8x16_t own = vreinterpretq_u8_u32(vdupq_n_u32(a[q * PANEL + i]));
                for (int j = 0; j < 4; j++) {
                    const uint8x16_t other = vreinterpretq_u8_u32(vld1q_u32(b + (panel * QUADS + q) * PANEL + 4 * j));
                    const uint16x8_t low = vmull_u8(vget_low_u8(own), vget_low_u8(other)), high = vmull_high_u8(own, other);
                    const uint32x4_t first = vpaddlq_u16(low), second = vpaddlq_u16(high);
                    sum[j] = vaddq_u32(sum[j], vpaddq_u32(first, second));
                }
            }
            for (int j = 0; j < 4; j++) {
                uint32_t lanes[4];
                vst1q_u32(lanes, sum[j]);
                for (int l = 0; l < 4; l++)
                    out[i * pitch + panel * PANEL + 4 * (size_t)j + (size_t)l] = lanes[l];
            }
        }
}
#endif

#if ZIPML_X86
/* Bytes widened to 16 bits: vpmaddwd adds two products, so that a column's sum is in two lanes. 2 columns by 16 at a time. */
TARGET_avx2 static void gram_block_avx2(const uint32_t *a, const uint32_t *b, size_t quads, const int64_t *sum_a, int64_t *out,
                                        size_t pitch)
{
    (void)sum_a;
    for (size_t i = 0; i < BLOCK_ROWS; i += 2)
        for (size_t panel = 0; panel < 2; panel++) {
            __m256i sum[2][4];
            for (int k = 0; k < 8; k++)
                sum[k / 4][k % 4] = _mm256_setzero_si256();
            for (size_t q = 0; q < quads; q++) {
                const uint32_t *own = b + (panel * QUADS + q) * PANEL;
                __m256i x[2];
                for (size_t k = 0; k < 2; k++)
                    x[k] = _mm256_cvtepu8_epi16(_mm_set1_epi32((int)a[q * PANEL + i + k]));
                UNROLL(4)
                for (int j = 0; j < 4; j++) {
                    const __m256i y = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(own + 4 * j)));
                    sum[0][j] = _mm256_add_epi32(sum[0][j], _mm256_madd_epi16(x[0], y));
                    sum[1][j] = _mm256_add_epi32(sum[1][j], _mm256_madd_epi16(x[1], y));
                }
            }
            for (size_t k = 0; k < 2; k++)
                for (size_t j = 0; j < 4; j++) {
                    uint32_t lanes[8];
                    _mm256_storeu_si256((__m256i *)lanes, sum[k][j]);
                    for (size_t l = 0; l < 4; l++)
                        out[(i + k) * pitch + panel * PANEL + 4 * j + l] = (int64_t)lanes[2 * l] + lanes[2 * l + 1];
                }
        }
}

TARGET_avx512 static void gram_block_avx512(const uint32_t *a, const uint32_t *b, size_t quads, const int64_t *sum_a, int64_t *out,
                                            size_t pitch)
{
    const __m512i top = _mm512_set1_epi8((char)0x80);
    __m512i sum[BLOCK_ROWS][2];
    UNROLL(8)
    for (int i = 0; i < BLOCK_ROWS; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_si512();
    for (size_t q = 0; q < quads; q++) {
        const __m512i first = _mm512_xor_si512(_mm512_loadu_si512(b + q * PANEL), top); /* u - 128 */
        const __m512i second = _mm512_xor_si512(_mm512_loadu_si512(b + (QUADS + q) * PANEL), top);
        UNROLL(8)
        for (int i = 0; i < BLOCK_ROWS; i++) {
            const __m512i own = _mm512_set1_epi32((int)a[q * PANEL + (size_t)i]);
            sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], own, first);
            sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], own, second);
        }
    }
    UNROLL(8)
    for (int i = 0; i < BLOCK_ROWS; i++) {
        const __m512i more = _mm512_set1_epi64(128 * sum_a[i]);
        UNROLL(4)
        for (int part = 0; part < 4; part++) {
            const __m512i own = sum[i][part / 2];
            const __m256i half = part % 2 ? _mm512_extracti64x4_epi64(own, 1) : _mm512_castsi512_si256(own);
            _mm512_storeu_si512(out + (size_t)i * pitch + 8 * (size_t)part, _mm512_add_epi64(_mm512_cvtepi32_epi64(half), more));
        }
    }
}
#endif
#undef BLOCK_ROWS
