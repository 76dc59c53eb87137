/* The 16-lane operations as pairs of AVX2 registers: meanings in lanes_scalar.h. */
#include "lanes.h"

typedef struct { __m256 a, b; } f16;
typedef struct { __m256i a, b; } u16;

#define BOTH(type, f) (type){f(x.a, y.a), f(x.b, y.b)}

LANE_FN f16 f_load(const float *p) { return (f16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
LANE_FN void f_store(float *p, f16 x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
LANE_FN f16 f_set(float x) { return (f16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
LANE_FN f16 f_add(f16 x, f16 y) { return BOTH(f16, _mm256_add_ps); }
LANE_FN f16 f_sub(f16 x, f16 y) { return BOTH(f16, _mm256_sub_ps); }
LANE_FN f16 f_mul(f16 x, f16 y) { return BOTH(f16, _mm256_mul_ps); }
LANE_FN f16 f_div(f16 x, f16 y) { return BOTH(f16, _mm256_div_ps); }
LANE_FN f16 f_min(f16 x, f16 y) { return BOTH(f16, _mm256_min_ps); }
LANE_FN f16 f_max(f16 x, f16 y) { return BOTH(f16, _mm256_max_ps); }
LANE_FN f16 f_abs(f16 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (f16){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
LANE_FN f16 f_from_u(u16 x) { return (f16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
LANE_FN f16 f_gather(const float *p, u16 at) { return (f16){_mm256_i32gather_ps(p, at.a, 4), _mm256_i32gather_ps(p, at.b, 4)}; }
LANE_FN f16 f_select_ge(f16 x, f16 y, f16 yes, f16 no)
{
    return (f16){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)),
                 _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ))};
}
LANE_FN f16 f_select_eq(u16 x, u16 y, f16 yes, f16 no)
{
    return (f16){_mm256_blendv_ps(no.a, yes.a, _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.a, y.a))),
                 _mm256_blendv_ps(no.b, yes.b, _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.b, y.b)))};
}
LANE_FN u16 u_load(const uint32_t *p)
{
    return (u16){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))};
}
LANE_FN void u_store(uint32_t *p, u16 x) { _mm256_storeu_si256((__m256i *)p, x.a); _mm256_storeu_si256((__m256i *)(p + 8), x.b); }
LANE_FN u16 u_set(uint32_t x) { return (u16){_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)}; }
LANE_FN u16 u_add(u16 x, u16 y) { return BOTH(u16, _mm256_add_epi32); }
LANE_FN u16 u_sub(u16 x, u16 y) { return BOTH(u16, _mm256_sub_epi32); }
LANE_FN u16 u_mul(u16 x, u16 y) { return BOTH(u16, _mm256_mullo_epi32); }
LANE_FN u16 u_min(u16 x, u16 y) { return BOTH(u16, _mm256_min_epi32); }
LANE_FN u16 u_and(u16 x, u16 y) { return BOTH(u16, _mm256_and_si256); }
LANE_FN u16 u_or(u16 x, u16 y) { return BOTH(u16, _mm256_or_si256); }
LANE_FN u16 u_xor3(u16 x, u16 y, u16 z)
{
    x = BOTH(u16, _mm256_xor_si256);
    y = z;
    return BOTH(u16, _mm256_xor_si256);
}
LANE_FN u16 u_iota(uint32_t first)
{
    u16 x = u_set(first), y = {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
    return BOTH(u16, _mm256_add_epi32);
}
LANE_FN u16 u_shr(u16 x, int n) { return (u16){_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)}; }
LANE_FN u16 u_trunc(f16 x) { return (u16){_mm256_cvttps_epi32(x.a), _mm256_cvttps_epi32(x.b)}; }
LANE_FN u16 u_less(u16 x, u16 y)
{
    return (u16){_mm256_srli_epi32(_mm256_cmpgt_epi32(y.a, x.a), 31), _mm256_srli_epi32(_mm256_cmpgt_epi32(y.b, x.b), 31)};
}
LANE_FN u16 u_add_less(u16 n, u16 x, u16 y)
{
    return (u16){_mm256_sub_epi32(n.a, _mm256_cmpgt_epi32(y.a, x.a)), _mm256_sub_epi32(n.b, _mm256_cmpgt_epi32(y.b, x.b))};
}
LANE_FN u16 u_add_ge(u16 n, f16 x, f16 y)
{
    return (u16){_mm256_sub_epi32(n.a, _mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ))),
                 _mm256_sub_epi32(n.b, _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)))};
}
LANE_FN u16 u_select_ge(f16 x, f16 y, u16 yes, u16 no)
{
    return (u16){_mm256_blendv_epi8(no.a, yes.a, _mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ))),
                 _mm256_blendv_epi8(no.b, yes.b, _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)))};
}
LANE_FN u16 u_outside(u16 marks, f16 x, f16 lo, f16 hi)
{
    __m256 a = _mm256_or_ps(_mm256_cmp_ps(x.a, lo.a, _CMP_NGE_UQ), _mm256_cmp_ps(x.a, hi.a, _CMP_NLE_UQ));
    __m256 b = _mm256_or_ps(_mm256_cmp_ps(x.b, lo.b, _CMP_NGE_UQ), _mm256_cmp_ps(x.b, hi.b, _CMP_NLE_UQ));
    return (u16){_mm256_or_si256(marks.a, _mm256_castps_si256(a)), _mm256_or_si256(marks.b, _mm256_castps_si256(b))};
}
LANE_FN int u_any(u16 x) { __m256i y = _mm256_or_si256(x.a, x.b); return !_mm256_testz_si256(y, y); }
LANE_FN __m256i LEVELED(mulhi_half)(__m256i a, __m256i b)
{
    __m256i even = _mm256_mul_epu32(a, b), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
LANE_FN u16 u_mulhi(u16 x, u16 y) { return BOTH(u16, LEVELED(mulhi_half)); }
LANE_FN void LEVELED(mulhilo_half)(__m256i a, __m256i m, __m256i *hi, __m256i *lo)
{
    __m256i even = _mm256_mul_epu32(a, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m);
    *hi = _mm256_blend_epi32(_mm256_shuffle_epi32(even, 0xF5), odd, 0xAA);
    *lo = _mm256_blend_epi32(even, _mm256_shuffle_epi32(odd, 0xA0), 0xAA);
}
LANE_FN void u_mulhilo(u16 x, uint32_t m, u16 *hi, u16 *lo)
{
    const __m256i y = _mm256_set1_epi64x(m);
    LEVELED(mulhilo_half)(x.a, y, &hi->a, &lo->a);
    LEVELED(mulhilo_half)(x.b, y, &hi->b, &lo->b);
}
LANE_FN u16 u_load_bytes(const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return (u16){_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
LANE_FN void u_store_bytes(uint8_t *p, u16 x)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(x.a, x.b), 0xD8);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
LANE_FN void b_pack(uint8_t *out, const uint8_t *codes, int bits, size_t bytes) { bits_pack(out, codes, bits, bytes); }
LANE_FN void b_unpack(uint8_t *codes, const uint8_t *in, int bits, size_t bytes) { bits_unpack(codes, in, bits, bytes); }

#undef BOTH
