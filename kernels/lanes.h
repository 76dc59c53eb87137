/* Names of the 16-lane operations, resolved to the level being compiled: f_add means f_add_avx2 while LEVEL is avx2.
 * f16 = 16 float32, u16 = 16 32-bit integers. Each lanes_LEVEL.h defines the same list; lanes_scalar.h is the one to read. */
#ifndef ZIPML_LANES_H
#define ZIPML_LANES_H

#include "bits.h"

#include <math.h>

#define LEVELED(name) CAT(name, LEVEL)
#define LANE_FN ALWAYS_INLINE CAT(TARGET, LEVEL)  /* a helper of a body */
#define KERNEL_FN static CAT(TARGET, LEVEL)       /* an entry of a body, called through FOR_LEVEL */

#define f16 LEVELED(f16)
#define u16 LEVELED(u16)
#define f_load LEVELED(f_load)
#define f_store LEVELED(f_store)
#define f_set LEVELED(f_set)
#define f_add LEVELED(f_add)
#define f_sub LEVELED(f_sub)
#define f_mul LEVELED(f_mul)
#define f_div LEVELED(f_div)
#define f_min LEVELED(f_min)
#define f_max LEVELED(f_max)
#define f_abs LEVELED(f_abs)
#define f_from_u LEVELED(f_from_u)
#define f_gather LEVELED(f_gather)
#define f_select_ge LEVELED(f_select_ge)
#define f_select_eq LEVELED(f_select_eq)
#define u_load LEVELED(u_load)
#define u_store LEVELED(u_store)
#define u_set LEVELED(u_set)
#define u_iota LEVELED(u_iota)
#define u_add LEVELED(u_add)
#define u_sub LEVELED(u_sub)
#define u_mul LEVELED(u_mul)
#define u_min LEVELED(u_min)
#define u_and LEVELED(u_and)
#define u_or LEVELED(u_or)
#define u_xor3 LEVELED(u_xor3)
#define u_shr LEVELED(u_shr)
#define u_trunc LEVELED(u_trunc)
#define u_less LEVELED(u_less)
#define u_add_less LEVELED(u_add_less)
#define u_add_ge LEVELED(u_add_ge)
#define u_select_ge LEVELED(u_select_ge)
#define u_outside LEVELED(u_outside)
#define u_any LEVELED(u_any)
#define u_mulhi LEVELED(u_mulhi)
#define u_mulhilo LEVELED(u_mulhilo)
#define u_load_bytes LEVELED(u_load_bytes)
#define u_store_bytes LEVELED(u_store_bytes)
#define philox_rounds LEVELED(philox_rounds)
#define philox_block LEVELED(philox_block)
#define b_pack LEVELED(b_pack)
#define b_unpack LEVELED(b_unpack)

#endif
