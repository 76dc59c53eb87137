/* The 16-lane operations in plain C: the meaning of each, and the code where no vector level is available. */
#include "lanes.h"

typedef struct { float x[16]; } f16;
typedef struct { uint32_t x[16]; } u16;
typedef struct { uint64_t x[16]; } p16;
typedef struct { uint16_t x[32]; } h32;
typedef struct { uint8_t x[64]; } b64;
typedef struct { int x[16]; } m16;

#define EACH_LANE for (int l = 0; l < 16; l++)

LANE_FN f16 f_load(const float *p) { f16 r; memcpy(r.x, p, 64); return r; }
LANE_FN void f_store(float *p, f16 a) { memcpy(p, a.x, 64); }
LANE_FN f16 f_set(float a) { f16 r; EACH_LANE r.x[l] = a; return r; }
LANE_FN f16 f_add(f16 a, f16 b) { EACH_LANE a.x[l] += b.x[l]; return a; }
LANE_FN f16 f_sub(f16 a, f16 b) { EACH_LANE a.x[l] -= b.x[l]; return a; }
LANE_FN f16 f_mul(f16 a, f16 b) { EACH_LANE a.x[l] *= b.x[l]; return a; }
LANE_FN f16 f_div(f16 a, f16 b) { EACH_LANE a.x[l] /= b.x[l]; return a; }
LANE_FN f16 f_min(f16 a, f16 b) { EACH_LANE a.x[l] = a.x[l] < b.x[l] ? a.x[l] : b.x[l]; return a; }
LANE_FN f16 f_max(f16 a, f16 b) { EACH_LANE a.x[l] = a.x[l] > b.x[l] ? a.x[l] : b.x[l]; return a; }
LANE_FN f16 f_abs(f16 a) { EACH_LANE a.x[l] = fabsf(a.x[l]); return a; }
LANE_FN f16 f_from_u(u16 a) { f16 r; EACH_LANE r.x[l] = (float)(int32_t)a.x[l]; return r; }
/* the float32 of these 32 bits */
LANE_FN f16 f_from_bits(u16 a) { f16 r; memcpy(r.x, a.x, 64); return r; }
LANE_FN f16 f_gather(const float *p, u16 at) { f16 r; EACH_LANE r.x[l] = p[at.x[l]]; return r; }
/* lane l of x[at[l]], numbers below 16 */
LANE_FN f16 f_pick(const f16 *x, u16 at) { f16 r; EACH_LANE r.x[l] = x[at.x[l]].x[l]; return r; }
/* a >= b ? yes : no */
LANE_FN f16 f_select_ge(f16 a, f16 b, f16 yes, f16 no) { EACH_LANE no.x[l] = a.x[l] >= b.x[l] ? yes.x[l] : no.x[l]; return no; }
/* a == b ? yes : no */
LANE_FN f16 f_select_eq(u16 a, u16 b, f16 yes, f16 no) { EACH_LANE no.x[l] = a.x[l] == b.x[l] ? yes.x[l] : no.x[l]; return no; }
LANE_FN u16 u_load(const uint32_t *p) { u16 r; memcpy(r.x, p, 64); return r; }
LANE_FN void u_store(uint32_t *p, u16 a) { memcpy(p, a.x, 64); }
LANE_FN u16 u_set(uint32_t a) { u16 r; EACH_LANE r.x[l] = a; return r; }
LANE_FN u16 u_iota(uint32_t first) { u16 r; EACH_LANE r.x[l] = first + (uint32_t)l; return r; }
LANE_FN u16 u_add(u16 a, u16 b) { EACH_LANE a.x[l] += b.x[l]; return a; }
LANE_FN u16 u_sub(u16 a, u16 b) { EACH_LANE a.x[l] -= b.x[l]; return a; }
LANE_FN u16 u_mul(u16 a, u16 b) { EACH_LANE a.x[l] *= b.x[l]; return a; }
LANE_FN u16 u_and(u16 a, u16 b) { EACH_LANE a.x[l] &= b.x[l]; return a; }
LANE_FN u16 u_or(u16 a, u16 b) { EACH_LANE a.x[l] |= b.x[l]; return a; }
LANE_FN u16 u_xor3(u16 a, u16 b, u16 c) { EACH_LANE a.x[l] ^= b.x[l] ^ c.x[l]; return a; }
LANE_FN u16 u_shr(u16 a, int n) { EACH_LANE a.x[l] >>= n; return a; }
LANE_FN u16 u_shl(u16 a, int n) { EACH_LANE a.x[l] <<= n; return a; }
/* signed: every integer compared here is below 2**31 */
LANE_FN u16 u_min(u16 a, u16 b) { EACH_LANE a.x[l] = (int32_t)a.x[l] < (int32_t)b.x[l] ? a.x[l] : b.x[l]; return a; }
/* toward zero; a value that no int32 holds, NaN among them, gives 2**31 as the vector instructions do */
LANE_FN u16 u_trunc(f16 a)
{
    u16 r;
    EACH_LANE r.x[l] = a.x[l] >= -2147483648.0f && a.x[l] < 2147483648.0f ? (uint32_t)(int32_t)a.x[l] : 0x80000000u;
    return r;
}
/* 1 where a < b, signed */
LANE_FN u16 u_less(u16 a, u16 b) { EACH_LANE a.x[l] = (int32_t)a.x[l] < (int32_t)b.x[l]; return a; }
/* n + (a < b), signed */
LANE_FN u16 u_add_less(u16 n, u16 a, u16 b) { EACH_LANE n.x[l] += (int32_t)a.x[l] < (int32_t)b.x[l]; return n; }
/* n + (a >= b) */
LANE_FN u16 u_add_ge(u16 n, f16 a, f16 b) { EACH_LANE n.x[l] += a.x[l] >= b.x[l]; return n; }
LANE_FN u16 u_select_ge(f16 a, f16 b, u16 yes, u16 no) { EACH_LANE no.x[l] = a.x[l] >= b.x[l] ? yes.x[l] : no.x[l]; return no; }
LANE_FN m16 m_full(void) { m16 r; EACH_LANE r.x[l] = 1; return r; }
/* m, but for lanes where a is not in [lo, hi]; NaN never is */
LANE_FN m16 m_within(m16 m, f16 a, f16 lo, f16 hi) { EACH_LANE m.x[l] &= a.x[l] >= lo.x[l] && a.x[l] <= hi.x[l]; return m; }
LANE_FN int m_is_full(m16 m) { int r = 1; EACH_LANE r &= m.x[l]; return r; }
LANE_FN u16 u_mulhi(u16 a, u16 b) { EACH_LANE a.x[l] = (uint32_t)(((uint64_t)a.x[l] * b.x[l]) >> 32); return a; }
/* Lanes of 64 bits, for products. p_mul: of the low halves, which are all that p_wide, p_xor and p_mix vouch for. */
LANE_FN p16 p_wide(u16 a) { p16 r; EACH_LANE r.x[l] = a.x[l]; return r; }
LANE_FN p16 p_mul(p16 a, uint32_t m) { EACH_LANE a.x[l] = (a.x[l] & 0xffffffff) * m; return a; }
LANE_FN p16 p_high(p16 a) { EACH_LANE a.x[l] >>= 32; return a; }
LANE_FN p16 p_xor(p16 a, uint32_t b) { EACH_LANE a.x[l] ^= b; return a; }
/* p_high(a) ^ b ^ key */
LANE_FN p16 p_mix(p16 a, p16 b, uint32_t key) { EACH_LANE a.x[l] = a.x[l] >> 32 ^ b.x[l] ^ key; return a; }
LANE_FN u16 u_high(p16 a) { u16 r; EACH_LANE r.x[l] = (uint32_t)(a.x[l] >> 32); return r; }
LANE_FN u16 u_low(p16 a) { u16 r; EACH_LANE r.x[l] = (uint32_t)a.x[l]; return r; }
LANE_FN u16 u_load_bytes(const uint8_t *p) { u16 r; EACH_LANE r.x[l] = p[l]; return r; }
LANE_FN void u_store_bytes(uint8_t *p, u16 a) { EACH_LANE p[l] = (uint8_t)a.x[l]; }
/* Halves of two u16, a's in even places: the bottom and the top ones; and back. */
LANE_FN h32 h_bottoms(u16 a, u16 b)
{
    h32 r;
    EACH_LANE r.x[2 * l] = (uint16_t)a.x[l], r.x[2 * l + 1] = (uint16_t)b.x[l];
    return r;
}
LANE_FN h32 h_tops(u16 a, u16 b)
{
    h32 r;
    EACH_LANE r.x[2 * l] = (uint16_t)(a.x[l] >> 16), r.x[2 * l + 1] = (uint16_t)(b.x[l] >> 16);
    return r;
}
LANE_FN u16 u_evens(h32 a) { u16 r; EACH_LANE r.x[l] = a.x[2 * l]; return r; }
LANE_FN u16 u_odds(h32 a) { u16 r; EACH_LANE r.x[l] = a.x[2 * l + 1]; return r; }
LANE_FN h32 h_add(h32 a, h32 b) { for (int l = 0; l < 32; l++) a.x[l] = (uint16_t)(a.x[l] + b.x[l]); return a; }
/* n + (a < b), unsigned */
LANE_FN h32 h_add_less(h32 n, h32 a, h32 b)
{
    for (int l = 0; l < 32; l++)
        n.x[l] = (uint16_t)(n.x[l] + (a.x[l] < b.x[l]));
    return n;
}
/* 64 bytes: the lowest of x[0], x[1], x[2], x[3]; of pairs (x[0], x[1]), (x[2], x[3]), numbers below 256 */
LANE_FN b64 b_load(const uint8_t *p) { b64 r; memcpy(r.x, p, 64); return r; }
LANE_FN b64 b_join(const u16 *x) { b64 r; for (int q = 0; q < 4; q++) EACH_LANE r.x[16 * q + l] = (uint8_t)x[q].x[l]; return r; }
LANE_FN b64 b_join_pairs(h32 a, h32 b)
{
    const u16 x[4] = {u_evens(a), u_odds(a), u_evens(b), u_odds(b)};
    return b_join(x);
}
LANE_FN b64 b_zero(void) { return (b64){{0}}; }
LANE_FN void b_store(uint8_t *p, b64 a) { memcpy(p, a.x, 64); }
/* bytes of a and b in turn: of their lower halves, of their upper ones */
LANE_FN b64 b_zip_low(b64 a, b64 b)
{
    b64 r;
    for (int l = 0; l < 32; l++)
        r.x[2 * l] = a.x[l], r.x[2 * l + 1] = b.x[l];
    return r;
}
LANE_FN b64 b_zip_high(b64 a, b64 b)
{
    b64 r;
    for (int l = 0; l < 32; l++)
        r.x[2 * l] = a.x[32 + l], r.x[2 * l + 1] = b.x[32 + l];
    return r;
}
/* in words of 64 bits: the bits of `low` change places with those `shift` above them */
LANE_FN b64 b_swap(b64 a, int shift, uint64_t low)
{
    uint64_t w[8];
    memcpy(w, a.x, 64);
    for (int l = 0; l < 8; l++) {
        const uint64_t unlike = (w[l] >> shift ^ w[l]) & low;
        w[l] ^= unlike ^ unlike << shift;
    }
    memcpy(a.x, w, 64);
    return a;
}
/* in each byte: its lower `bits` bits, and beside them those of its upper half */
LANE_FN b64 b_join_halves(b64 a, int bits)
{
    for (int l = 0; l < 64; l++)
        a.x[l] = (uint8_t)((a.x[l] & ((1 << bits) - 1)) | (a.x[l] >> 4 & ((1 << bits) - 1)) << bits);
    return a;
}
/* bit `bit` of each of 64 codes */
LANE_FN uint64_t b_plane(b64 a, int bit)
{
    uint64_t w[8], plane = 0;
    memcpy(w, a.x, 64);
    for (int l = 0; l < 8; l++)
        plane |= ((w[l] >> bit & FIELDS(1, 8)) * 0x0102040810204080u >> 56) << 8 * l;
    return plane;
}
/* 64 codes of a block to `bytes` bytes of a row's bitstream, and back */
LANE_FN void b_pack(uint8_t *out, b64 codes, int bits, size_t bytes) { bits_pack(out, codes.x, bits, bytes); }
LANE_FN void b_unpack(uint8_t *codes, const uint8_t *in, int bits, size_t bytes) { bits_unpack(codes, in, bits, bytes); }

#undef EACH_LANE
