/* The 16-lane operations as AVX-512 registers: meanings in lanes_scalar.h. */
#include "lanes.h"

typedef __m512 f16;
typedef __m512i u16;
typedef struct { __m512i even, odd; } p16; /* lanes of even and of odd number */
typedef __m512i h32;
typedef __m512i b64;
typedef __mmask16 m16;

LANE_FN f16 f_load(const float *p) { return _mm512_loadu_ps(p); }
LANE_FN void f_store(float *p, f16 x) { _mm512_storeu_ps(p, x); }
LANE_FN f16 f_set(float x) { return _mm512_set1_ps(x); }
LANE_FN f16 f_add(f16 x, f16 y) { return _mm512_add_ps(x, y); }
LANE_FN f16 f_sub(f16 x, f16 y) { return _mm512_sub_ps(x, y); }
LANE_FN f16 f_mul(f16 x, f16 y) { return _mm512_mul_ps(x, y); }
LANE_FN f16 f_div(f16 x, f16 y) { return _mm512_div_ps(x, y); }
LANE_FN f16 f_min(f16 x, f16 y) { return _mm512_min_ps(x, y); }
LANE_FN f16 f_max(f16 x, f16 y) { return _mm512_max_ps(x, y); }
LANE_FN f16 f_abs(f16 x) { return _mm512_abs_ps(x); }
LANE_FN f16 f_from_u(u16 x) { return _mm512_cvtepi32_ps(x); }
LANE_FN f16 f_from_bits(u16 x) { return _mm512_castsi512_ps(x); }
LANE_FN f16 f_gather(const float *p, u16 at) { return _mm512_i32gather_ps(at, p, 4); }
LANE_FN f16 f_pick(const f16 *x, u16 at)
{
    f16 y[8];
    __mmask16 bit[4];
    UNROLL(4)
    for (int i = 0; i < 4; i++)
        bit[i] = _mm512_test_epi32_mask(at, _mm512_set1_epi32(1 << i));
    UNROLL(8)
    for (int i = 0; i < 8; i++)
        y[i] = _mm512_mask_blend_ps(bit[0], x[2 * i], x[2 * i + 1]);
    UNROLL(4)
    for (int i = 0; i < 4; i++)
        y[i] = _mm512_mask_blend_ps(bit[1], y[2 * i], y[2 * i + 1]);
    return _mm512_mask_blend_ps(bit[3], _mm512_mask_blend_ps(bit[2], y[0], y[1]), _mm512_mask_blend_ps(bit[2], y[2], y[3]));
}
LANE_FN f16 f_select_ge(f16 x, f16 y, f16 yes, f16 no) { return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(x, y, _CMP_GE_OQ), yes); }
LANE_FN f16 f_select_eq(u16 x, u16 y, f16 yes, f16 no) { return _mm512_mask_mov_ps(no, _mm512_cmpeq_epi32_mask(x, y), yes); }
LANE_FN u16 u_load(const uint32_t *p) { return _mm512_loadu_si512(p); }
LANE_FN void u_store(uint32_t *p, u16 x) { _mm512_storeu_si512(p, x); }
LANE_FN u16 u_set(uint32_t x) { return _mm512_set1_epi32((int)x); }
LANE_FN u16 u_iota(uint32_t first)
{
    return _mm512_add_epi32(_mm512_set1_epi32((int)first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
LANE_FN u16 u_add(u16 x, u16 y) { return _mm512_add_epi32(x, y); }
LANE_FN u16 u_sub(u16 x, u16 y) { return _mm512_sub_epi32(x, y); }
LANE_FN u16 u_mul(u16 x, u16 y) { return _mm512_mullo_epi32(x, y); }
LANE_FN u16 u_min(u16 x, u16 y) { return _mm512_min_epi32(x, y); }
LANE_FN u16 u_and(u16 x, u16 y) { return _mm512_and_si512(x, y); }
LANE_FN u16 u_or(u16 x, u16 y) { return _mm512_or_si512(x, y); }
LANE_FN u16 u_xor3(u16 x, u16 y, u16 z) { return _mm512_ternarylogic_epi32(x, y, z, 0x96); }
LANE_FN u16 u_shr(u16 x, int n) { return _mm512_srli_epi32(x, (unsigned)n); }
LANE_FN u16 u_shl(u16 x, int n) { return _mm512_slli_epi32(x, (unsigned)n); }
LANE_FN u16 u_trunc(f16 x) { return _mm512_cvttps_epi32(x); }
LANE_FN u16 u_less(u16 x, u16 y) { return _mm512_maskz_set1_epi32(_mm512_cmplt_epi32_mask(x, y), 1); }
LANE_FN u16 u_add_less(u16 n, u16 x, u16 y)
{
    return _mm512_mask_add_epi32(n, _mm512_cmplt_epi32_mask(x, y), n, _mm512_set1_epi32(1));
}
LANE_FN u16 u_add_ge(u16 n, f16 x, f16 y)
{
    return _mm512_mask_add_epi32(n, _mm512_cmp_ps_mask(x, y, _CMP_GE_OQ), n, _mm512_set1_epi32(1));
}
LANE_FN u16 u_select_ge(f16 x, f16 y, u16 yes, u16 no) { return _mm512_mask_mov_epi32(no, _mm512_cmp_ps_mask(x, y, _CMP_GE_OQ), yes); }
LANE_FN m16 m_full(void) { return 0xffff; }
LANE_FN m16 m_within(m16 m, f16 x, f16 lo, f16 hi)
{
    return _mm512_mask_cmp_ps_mask(_mm512_mask_cmp_ps_mask(m, x, lo, _CMP_GE_OQ), x, hi, _CMP_LE_OQ);
}
LANE_FN int m_is_full(m16 m) { return m == 0xffff; }
LANE_FN u16 u_mulhi(u16 x, u16 y)
{
    __m512i even = _mm512_mul_epu32(x, y), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(y, 32));
    return _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
LANE_FN p16 p_wide(u16 x) { return (p16){x, _mm512_srli_epi64(x, 32)}; }
LANE_FN p16 p_mul(p16 x, uint32_t m)
{
    const __m512i y = _mm512_set1_epi64((long long)m);
    return (p16){_mm512_mul_epu32(x.even, y), _mm512_mul_epu32(x.odd, y)};
}
/* Shuffles, not shifts: the multiplications already fill the port that shifts run on. */
LANE_FN p16 p_high(p16 x)
{
    return (p16){_mm512_shuffle_epi32(x.even, (_MM_PERM_ENUM)0xF5), _mm512_shuffle_epi32(x.odd, (_MM_PERM_ENUM)0xF5)};
}
LANE_FN p16 p_xor(p16 x, uint32_t y) { return (p16){_mm512_xor_si512(x.even, u_set(y)), _mm512_xor_si512(x.odd, u_set(y))}; }
LANE_FN p16 p_mix(p16 x, p16 y, uint32_t key)
{
    x = p_high(x);
    return (p16){u_xor3(x.even, y.even, u_set(key)), u_xor3(x.odd, y.odd, u_set(key))};
}
LANE_FN u16 u_high(p16 x) { return _mm512_mask_shuffle_epi32(x.odd, 0x5555, x.even, (_MM_PERM_ENUM)0xF5); }
LANE_FN u16 u_low(p16 x) { return _mm512_mask_shuffle_epi32(x.even, 0xAAAA, x.odd, (_MM_PERM_ENUM)0xA0); }
LANE_FN u16 u_load_bytes(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
LANE_FN void u_store_bytes(uint8_t *p, u16 x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }
LANE_FN h32 h_bottoms(u16 x, u16 y) { return _mm512_mask_blend_epi16(0xAAAAAAAA, x, _mm512_slli_epi32(y, 16)); }
LANE_FN h32 h_tops(u16 x, u16 y) { return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(x, 16), y); }
LANE_FN u16 u_evens(h32 x) { return _mm512_and_si512(x, _mm512_set1_epi32(0xffff)); }
LANE_FN u16 u_odds(h32 x) { return _mm512_srli_epi32(x, 16); }
LANE_FN h32 h_add(h32 x, h32 y) { return _mm512_add_epi16(x, y); }
LANE_FN h32 h_add_less(h32 n, h32 x, h32 y)
{
    return _mm512_mask_add_epi16(n, _mm512_cmplt_epu16_mask(x, y), n, _mm512_set1_epi16(1));
}
LANE_FN b64 b_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
LANE_FN b64 b_zero(void) { return _mm512_setzero_si512(); }
LANE_FN void b_store(uint8_t *p, b64 x) { _mm512_storeu_si512(p, x); }
static const uint8_t LEVELED(zip_order)[2][64] ALIGNED64 = {
    {0, 64, 1, 65, 2, 66, 3, 67, 4, 68, 5, 69, 6, 70, 7, 71, 8, 72, 9, 73, 10, 74, 11, 75, 12, 76, 13, 77, 14, 78,
     15, 79, 16, 80, 17, 81, 18, 82, 19, 83, 20, 84, 21, 85, 22, 86, 23, 87, 24, 88, 25, 89, 26, 90, 27, 91, 28,
     92, 29, 93, 30, 94, 31, 95},
    {32, 96, 33, 97, 34, 98, 35, 99, 36, 100, 37, 101, 38, 102, 39, 103, 40, 104, 41, 105, 42, 106, 43, 107, 44,
     108, 45, 109, 46, 110, 47, 111, 48, 112, 49, 113, 50, 114, 51, 115, 52, 116, 53, 117, 54, 118, 55, 119, 56,
     120, 57, 121, 58, 122, 59, 123, 60, 124, 61, 125, 62, 126, 63, 127}};
LANE_FN b64 b_zip_low(b64 x, b64 y) { return _mm512_permutex2var_epi8(x, _mm512_load_si512(LEVELED(zip_order)[0]), y); }
LANE_FN b64 b_zip_high(b64 x, b64 y) { return _mm512_permutex2var_epi8(x, _mm512_load_si512(LEVELED(zip_order)[1]), y); }
LANE_FN b64 b_swap(b64 x, int shift, uint64_t low)
{
    const __m512i mask = _mm512_set1_epi64((long long)low); /* 0x28: (a ^ b) & c; 0x96: a ^ b ^ c */
    const __m512i unlike = _mm512_ternarylogic_epi64(x, _mm512_srli_epi64(x, (unsigned)shift), mask, 0x28);
    return _mm512_ternarylogic_epi64(x, unlike, _mm512_slli_epi64(unlike, (unsigned)shift), 0x96);
}
LANE_FN b64 b_join_halves(b64 x, int bits)
{
    const __m512i low = _mm512_set1_epi64((long long)FIELDS(bits, 8)), high = _mm512_set1_epi64((long long)(FIELDS(bits, 8) << bits));
    return _mm512_or_si512(_mm512_and_si512(x, low), _mm512_and_si512(_mm512_srl_epi64(x, _mm_cvtsi32_si128(4 - bits)), high));
}
LANE_FN uint64_t b_plane(b64 x, int bit) { return _mm512_test_epi8_mask(x, _mm512_set1_epi8((char)(1 << bit))); }
LANE_FN b64 b_join(const u16 *x)
{
    const __m256i low = _mm256_set_m128i(_mm512_cvtepi32_epi8(x[1]), _mm512_cvtepi32_epi8(x[0]));
    const __m256i high = _mm256_set_m128i(_mm512_cvtepi32_epi8(x[3]), _mm512_cvtepi32_epi8(x[2]));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
/* Where byte f of the block is, if lane l has bytes of x[0], x[2], x[1] and x[3]. */
static const uint8_t LEVELED(pair_order)[64] ALIGNED64 = {
    0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58, 62,
    1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55, 59, 63};
LANE_FN b64 b_join_pairs(h32 x, h32 y)
{
    return _mm512_permutexvar_epi8(_mm512_load_si512(LEVELED(pair_order)), _mm512_or_si512(x, _mm512_slli_epi16(y, 8)));
}
/* Byte j of the packed block comes from byte j % bits of word j / bits; and back. Row: bits. */
static const uint8_t LEVELED(pack_order)[9][64] ALIGNED64 = {
    {0},
    {0, 8, 16, 24, 32, 40, 48, 56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
     0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 8, 9, 16, 17, 24, 25, 32, 33, 40, 41, 48, 49, 56, 57, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
     0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 8, 9, 10, 16, 17, 18, 24, 25, 26, 32, 33, 34, 40, 41, 42, 48, 49, 50, 56, 57, 58, 0, 0, 0, 0, 0, 0, 0,
     0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27, 32, 33, 34, 35, 40, 41, 42, 43, 48, 49, 50, 51, 56, 57,
     58, 59, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 16, 17, 18, 19, 20, 24, 25, 26, 27, 28, 32, 33, 34, 35, 36, 40, 41, 42, 43, 44,
     48, 49, 50, 51, 52, 56, 57, 58, 59, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21, 24, 25, 26, 27, 28, 29, 32, 33, 34, 35, 36, 37,
     40, 41, 42, 43, 44, 45, 48, 49, 50, 51, 52, 53, 56, 57, 58, 59, 60, 61, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
     0, 0},
    {0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 32, 33,
     34, 35, 36, 37, 38, 40, 41, 42, 43, 44, 45, 46, 48, 49, 50, 51, 52, 53, 54, 56, 57, 58, 59, 60, 61, 62, 0, 0, 0,
     0, 0, 0, 0, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
     31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58,
     59, 60, 61, 62, 63}};
static const uint8_t LEVELED(unpack_order)[9][64] ALIGNED64 = {
    {0},
    {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4,
     4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7},
    {0, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 5, 5, 6, 7, 7, 7, 7, 7, 7, 7, 8, 9, 9, 9, 9, 9,
     9, 9, 10, 11, 11, 11, 11, 11, 11, 11, 12, 13, 13, 13, 13, 13, 13, 13, 14, 15, 15, 15, 15, 15, 15, 15},
    {0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5, 5, 5, 5, 5, 5, 6, 7, 8, 8, 8, 8, 8, 8, 9, 10, 11, 11, 11, 11, 11, 11, 12, 13,
     14, 14, 14, 14, 14, 14, 15, 16, 17, 17, 17, 17, 17, 17, 18, 19, 20, 20, 20, 20, 20, 20, 21, 22, 23, 23, 23, 23,
     23, 23},
    {0, 1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 7, 7, 7, 7, 7, 8, 9, 10, 11, 11, 11, 11, 11, 12, 13, 14, 15, 15, 15, 15, 15, 16,
     17, 18, 19, 19, 19, 19, 19, 20, 21, 22, 23, 23, 23, 23, 23, 24, 25, 26, 27, 27, 27, 27, 27, 28, 29, 30, 31, 31,
     31, 31, 31},
    {0, 1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 9, 9, 9, 9, 10, 11, 12, 13, 14, 14, 14, 14, 15, 16, 17, 18, 19, 19, 19, 19,
     20, 21, 22, 23, 24, 24, 24, 24, 25, 26, 27, 28, 29, 29, 29, 29, 30, 31, 32, 33, 34, 34, 34, 34, 35, 36, 37, 38,
     39, 39, 39, 39},
    {0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 11, 11, 11, 12, 13, 14, 15, 16, 17, 17, 17, 18, 19, 20, 21, 22, 23, 23,
     23, 24, 25, 26, 27, 28, 29, 29, 29, 30, 31, 32, 33, 34, 35, 35, 35, 36, 37, 38, 39, 40, 41, 41, 41, 42, 43, 44,
     45, 46, 47, 47, 47},
    {0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 18, 19, 20, 20, 21, 22, 23, 24, 25, 26, 27,
     27, 28, 29, 30, 31, 32, 33, 34, 34, 35, 36, 37, 38, 39, 40, 41, 41, 42, 43, 44, 45, 46, 47, 48, 48, 49, 50, 51,
     52, 53, 54, 55, 55},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
     31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58,
     59, 60, 61, 62, 63}};
/* One step of bits.h: the fields that `low` masks stay, their upper neighbours come down by `shift` to lie beside them. */
LANE_FN __m512i LEVELED(join_fields)(__m512i x, uint64_t low, int width, int shift)
{
    const __m512i mask = _mm512_set1_epi64((long long)(low << width));
    const __m512i down = _mm512_and_si512(_mm512_srl_epi64(x, _mm_cvtsi32_si128(shift)), mask);
    return _mm512_or_si512(_mm512_and_si512(x, _mm512_set1_epi64((long long)low)), down);
}
/* Eight words of eight codes: bits.h's three steps, then one byte permutation drops the empty bytes. Four bits, the default, take
 * one multiplication. */
LANE_FN void b_pack(uint8_t *out, b64 x, int bits, size_t bytes)
{
    if (bits == 4 && bytes == 32) {
        _mm256_storeu_si256((__m256i *)out, _mm512_cvtepi16_epi8(_mm512_maddubs_epi16(x, _mm512_set1_epi16(0x1001))));
        return;
    }
    if (bits < 8) {
        x = LEVELED(join_fields)(x, FIELDS(bits, 16), bits, 8 - bits);
        x = LEVELED(join_fields)(x, FIELDS(2 * bits, 32), 2 * bits, 16 - 2 * bits);
        x = LEVELED(join_fields)(x, FIELDS(4 * bits, 64), 4 * bits, 32 - 4 * bits);
        x = _mm512_permutexvar_epi8(_mm512_loadu_si512(LEVELED(pack_order)[bits]), x);
    }
    _mm512_mask_storeu_epi8(out, bytes < BLOCK ? ((__mmask64)1 << bytes) - 1 : ~(__mmask64)0, x);
}
/* The `bits` bytes of eight codes into each word, every code shifted to the bottom of its byte, masked. */
LANE_FN void b_unpack(uint8_t *codes, const uint8_t *in, int bits, size_t bytes)
{
    __m512i x = _mm512_maskz_loadu_epi8(bytes < BLOCK ? ((__mmask64)1 << bytes) - 1 : ~(__mmask64)0, in);
    const __m512i shifts = _mm512_set1_epi64((long long)(0x0706050403020100ull * (unsigned)bits));
    x = _mm512_permutexvar_epi8(_mm512_loadu_si512(LEVELED(unpack_order)[bits]), x);
    x = _mm512_multishift_epi64_epi8(shifts, x);
    _mm512_storeu_si512(codes, _mm512_and_si512(x, _mm512_set1_epi8((char)((1 << bits) - 1))));
}
