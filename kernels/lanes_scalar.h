/* The 16-lane operations in plain C: the meaning of each, and the code where no vector level is available. */
#include "lanes.h"

typedef struct { float x[16]; } f16;
typedef struct { uint32_t x[16]; } u16;

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
LANE_FN f16 f_gather(const float *p, u16 at) { f16 r; EACH_LANE r.x[l] = p[at.x[l]]; return r; }
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
/* marks the lanes where a is not in [lo, hi]; NaN never is */
LANE_FN u16 u_outside(u16 marks, f16 a, f16 lo, f16 hi) { EACH_LANE marks.x[l] |= !(a.x[l] >= lo.x[l] && a.x[l] <= hi.x[l]); return marks; }
LANE_FN int u_any(u16 a) { uint32_t r = 0; EACH_LANE r |= a.x[l]; return r != 0; }
LANE_FN u16 u_mulhi(u16 a, u16 b) { EACH_LANE a.x[l] = (uint32_t)(((uint64_t)a.x[l] * b.x[l]) >> 32); return a; }
LANE_FN void u_mulhilo(u16 a, uint32_t m, u16 *hi, u16 *lo)
{
    EACH_LANE {
        uint64_t product = (uint64_t)a.x[l] * m;
        hi->x[l] = (uint32_t)(product >> 32);
        lo->x[l] = (uint32_t)product;
    }
}
LANE_FN u16 u_load_bytes(const uint8_t *p) { u16 r; EACH_LANE r.x[l] = p[l]; return r; }
LANE_FN void u_store_bytes(uint8_t *p, u16 a) { EACH_LANE p[l] = (uint8_t)a.x[l]; }
/* 64 codes of a block to `bytes` bytes of a row's bitstream, and back */
LANE_FN void b_pack(uint8_t *out, const uint8_t *codes, int bits, size_t bytes) { bits_pack(out, codes, bits, bytes); }
LANE_FN void b_unpack(uint8_t *codes, const uint8_t *in, int bits, size_t bytes) { bits_unpack(codes, in, bits, bytes); }

#undef EACH_LANE
