/* The 16-lane operations as pairs of AVX2 registers: meanings in lanes_scalar.h. */
#include "lanes.h"

typedef struct { __m256 a, b; } f16;
typedef struct { __m256i a, b; } u16;
typedef struct { __m256i even_a, odd_a, even_b, odd_b; } p16; /* lanes of even and of odd number of either half */
typedef struct { __m256i a, b; } h32;
typedef struct { __m256i a, b; } b64;
typedef struct { __m256 a, b; } m16;

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
LANE_FN f16 f_from_bits(u16 x) { return (f16){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
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
LANE_FN u16 u_shl(u16 x, int n) { return (u16){_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
/* A blend looks at the sign alone. */
LANE_FN f16 f_pick(const f16 *x, u16 at)
{
    f16 y[8];
    u16 bit = u_shl(at, 31);
#define CHOOSE(x, y) \
    (f16){_mm256_blendv_ps((x).a, (y).a, _mm256_castsi256_ps(bit.a)), _mm256_blendv_ps((x).b, (y).b, _mm256_castsi256_ps(bit.b))}
    UNROLL(8)
    for (int i = 0; i < 8; i++)
        y[i] = CHOOSE(x[2 * i], x[2 * i + 1]);
    bit = u_shl(at, 30);
    UNROLL(4)
    for (int i = 0; i < 4; i++)
        y[i] = CHOOSE(y[2 * i], y[2 * i + 1]);
    bit = u_shl(at, 29);
    y[0] = CHOOSE(y[0], y[1]);
    y[1] = CHOOSE(y[2], y[3]);
    bit = u_shl(at, 28);
    return CHOOSE(y[0], y[1]);
#undef CHOOSE
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
LANE_FN m16 m_full(void)
{
    const __m256 ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    return (m16){ones, ones};
}
LANE_FN m16 m_within(m16 m, f16 x, f16 lo, f16 hi)
{
    const __m256 a = _mm256_and_ps(_mm256_cmp_ps(x.a, lo.a, _CMP_GE_OQ), _mm256_cmp_ps(x.a, hi.a, _CMP_LE_OQ));
    const __m256 b = _mm256_and_ps(_mm256_cmp_ps(x.b, lo.b, _CMP_GE_OQ), _mm256_cmp_ps(x.b, hi.b, _CMP_LE_OQ));
    return (m16){_mm256_and_ps(m.a, a), _mm256_and_ps(m.b, b)};
}
LANE_FN int m_is_full(m16 m) { return _mm256_movemask_ps(_mm256_and_ps(m.a, m.b)) == 0xff; }
LANE_FN __m256i LEVELED(mulhi_half)(__m256i a, __m256i b)
{
    __m256i even = _mm256_mul_epu32(a, b), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
LANE_FN u16 u_mulhi(u16 x, u16 y) { return BOTH(u16, LEVELED(mulhi_half)); }
#define EACH_PART(f) (p16){f(x.even_a), f(x.odd_a), f(x.even_b), f(x.odd_b)}
#define HIGH(x) _mm256_srli_epi64(x, 32)
LANE_FN p16 p_wide(u16 x) { return (p16){x.a, HIGH(x.a), x.b, HIGH(x.b)}; }
LANE_FN p16 p_high(p16 x) { return EACH_PART(HIGH); }
LANE_FN p16 p_mul(p16 x, uint32_t m)
{
    const __m256i y = _mm256_set1_epi64x(m);
#define TIMES(x) _mm256_mul_epu32(x, y)
    return EACH_PART(TIMES);
#undef TIMES
}
LANE_FN p16 p_xor(p16 x, uint32_t y)
{
    const __m256i z = _mm256_set1_epi32((int)y);
#define XOR(x) _mm256_xor_si256(x, z)
    return EACH_PART(XOR);
#undef XOR
}
LANE_FN p16 p_mix(p16 x, p16 y, uint32_t key)
{
    x = p_xor(p_high(x), key);
    return (p16){_mm256_xor_si256(x.even_a, y.even_a), _mm256_xor_si256(x.odd_a, y.odd_a),
                 _mm256_xor_si256(x.even_b, y.even_b), _mm256_xor_si256(x.odd_b, y.odd_b)};
}
LANE_FN u16 u_high(p16 x)
{
    return (u16){_mm256_blend_epi32(HIGH(x.even_a), x.odd_a, 0xAA), _mm256_blend_epi32(HIGH(x.even_b), x.odd_b, 0xAA)};
}
LANE_FN u16 u_low(p16 x)
{
    return (u16){_mm256_blend_epi32(x.even_a, _mm256_slli_epi64(x.odd_a, 32), 0xAA),
                 _mm256_blend_epi32(x.even_b, _mm256_slli_epi64(x.odd_b, 32), 0xAA)};
}
#undef EACH_PART
#undef HIGH
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
LANE_FN h32 h_bottoms(u16 x, u16 y)
{
    y = u_shl(y, 16);
    return (h32){_mm256_blend_epi16(x.a, y.a, 0xAA), _mm256_blend_epi16(x.b, y.b, 0xAA)};
}
LANE_FN h32 h_tops(u16 x, u16 y)
{
    x = u_shr(x, 16);
    return (h32){_mm256_blend_epi16(x.a, y.a, 0xAA), _mm256_blend_epi16(x.b, y.b, 0xAA)};
}
LANE_FN u16 u_evens(h32 x)
{
    const __m256i bottom = _mm256_set1_epi32(0xffff);
    return (u16){_mm256_and_si256(x.a, bottom), _mm256_and_si256(x.b, bottom)};
}
LANE_FN u16 u_odds(h32 x) { return (u16){_mm256_srli_epi32(x.a, 16), _mm256_srli_epi32(x.b, 16)}; }
LANE_FN h32 h_add(h32 x, h32 y) { return BOTH(h32, _mm256_add_epi16); }
LANE_FN h32 h_add_less(h32 n, h32 x, h32 y)
{
    const __m256i one = _mm256_set1_epi16(1);
    return (h32){_mm256_add_epi16(n.a, _mm256_min_epu16(_mm256_subs_epu16(y.a, x.a), one)),
                 _mm256_add_epi16(n.b, _mm256_min_epu16(_mm256_subs_epu16(y.b, x.b), one))};
}
LANE_FN b64 b_load(const uint8_t *p)
{
    return (b64){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32))};
}
LANE_FN b64 b_zero(void) { return (b64){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
LANE_FN void b_store(uint8_t *p, b64 x) { _mm256_storeu_si256((__m256i *)p, x.a); _mm256_storeu_si256((__m256i *)(p + 32), x.b); }
LANE_FN b64 LEVELED(zip_bytes)(__m256i x, __m256i y)
{
    const __m256i low = _mm256_unpacklo_epi8(x, y), high = _mm256_unpackhi_epi8(x, y);
    return (b64){_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
}
LANE_FN b64 b_zip_low(b64 x, b64 y) { return LEVELED(zip_bytes)(x.a, y.a); }
LANE_FN b64 b_zip_high(b64 x, b64 y) { return LEVELED(zip_bytes)(x.b, y.b); }
LANE_FN __m256i LEVELED(swap_bits)(__m256i x, int shift, __m256i low)
{
    const __m256i unlike = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi64(x, shift), x), low);
    return _mm256_xor_si256(_mm256_xor_si256(x, unlike), _mm256_slli_epi64(unlike, shift));
}
LANE_FN b64 b_swap(b64 x, int shift, uint64_t low)
{
    const __m256i mask = _mm256_set1_epi64x((long long)low);
    return (b64){LEVELED(swap_bits)(x.a, shift, mask), LEVELED(swap_bits)(x.b, shift, mask)};
}
/* One step of bits.h: the fields that `low` masks stay, their upper neighbours come down by `shift` to lie beside them. */
LANE_FN __m256i LEVELED(join_fields)(__m256i x, uint64_t low, int width, int shift)
{
    const __m256i mask = _mm256_set1_epi64x((long long)(low << width));
    const __m256i down = _mm256_and_si256(_mm256_srl_epi64(x, _mm_cvtsi32_si128(shift)), mask);
    return _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi64x((long long)low)), down);
}
LANE_FN b64 b_join_halves(b64 x, int bits)
{
    const uint64_t low = FIELDS(bits, 8);
    return (b64){LEVELED(join_fields)(x.a, low, bits, 4 - bits), LEVELED(join_fields)(x.b, low, bits, 4 - bits)};
}
LANE_FN uint64_t b_plane(b64 x, int bit)
{
    const uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi64(x.a, 7 - bit));
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_slli_epi64(x.b, 7 - bit)) << 32 | low;
}
LANE_FN b64 b_join(const u16 *x)
{
    uint8_t bytes[64] ALIGNED64;
    for (int q = 0; q < 4; q++)
        u_store_bytes(bytes + 16 * q, x[q]);
    return b_load(bytes);
}
/* Lane l has bytes of x[0], x[2], x[1], x[3]: four lanes' bytes to a word of each, then the words. */
LANE_FN b64 b_join_pairs(h32 x, h32 y)
{
    const __m256i words = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i a = _mm256_shuffle_epi8(_mm256_or_si256(x.a, _mm256_slli_epi16(y.a, 8)), words);
    const __m256i b = _mm256_shuffle_epi8(_mm256_or_si256(x.b, _mm256_slli_epi16(y.b, 8)), words);
    return (b64){_mm256_permutevar8x32_epi32(_mm256_unpacklo_epi32(a, b), order),
                 _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi32(a, b), order)};
}
/* Byte j of two words' codes comes from byte j % bits of word j / bits. Row: bits. */
static const uint8_t LEVELED(pack_order)[8][16] ALIGNED64 = {
    {0},
    {0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 8, 9, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 3, 8, 9, 10, 11, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 0, 0, 0, 0, 0, 0},
    {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 0, 0, 0, 0},
    {0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 0, 0}};
/* Two words of eight codes in either half: bits.h's three steps, then the empty bytes are dropped. */
LANE_FN __m256i LEVELED(pack_words)(__m256i x, int bits)
{
    x = LEVELED(join_fields)(x, FIELDS(bits, 16), bits, 8 - bits);
    x = LEVELED(join_fields)(x, FIELDS(2 * bits, 32), 2 * bits, 16 - 2 * bits);
    x = LEVELED(join_fields)(x, FIELDS(4 * bits, 64), 4 * bits, 32 - 4 * bits);
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)LEVELED(pack_order)[bits])));
}
LANE_FN void b_pack(uint8_t *out, b64 x, int bits, size_t bytes)
{
    if (bits == 4 && bytes == 32) {
        const __m256i both = _mm256_set1_epi16(0x1001);
        const __m256i packed = _mm256_packus_epi16(_mm256_maddubs_epi16(x.a, both), _mm256_maddubs_epi16(x.b, both));
        _mm256_storeu_si256((__m256i *)out, _mm256_permute4x64_epi64(packed, 0xD8));
        return;
    }
    uint8_t room[80] ALIGNED64;
    if (bits == 8) {
        b_store(room, x);
    } else {
        const __m256i a = LEVELED(pack_words)(x.a, bits), b = LEVELED(pack_words)(x.b, bits);
        const __m128i part[4] = {_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1), _mm256_castsi256_si128(b),
                                 _mm256_extracti128_si256(b, 1)};
        uint8_t *to = bytes == 8 * (size_t)bits && bits > 4 ? out : room;
        for (int i = 0; i < 3; i++)
            _mm_storeu_si128((__m128i *)(to + 2 * bits * i), part[i]); /* each one's surplus is overwritten by the next */
        if (to == out) { /* two halves that overlap */
            uint8_t *last = out + 6 * bits;
            uint64_t w[2] = {(uint64_t)_mm_cvtsi128_si64(part[3]), (uint64_t)_mm_extract_epi64(part[3], 1)};
            const int shift = 16 * bits - 64; /* 16, 32, 48 */
            w[1] = w[0] >> shift | w[1] << (64 - shift);
            memcpy(last, w, 8);
            memcpy(last + 2 * bits - 8, w + 1, 8);
            return;
        }
        _mm_storeu_si128((__m128i *)(to + 6 * bits), part[3]);
    }
    memcpy(out, room, bytes);
}
LANE_FN void b_unpack(uint8_t *codes, const uint8_t *in, int bits, size_t bytes) { bits_unpack(codes, in, bits, bytes); }

#undef BOTH
