/* Vector levels: how one kernel body becomes scalar, AVX2 and AVX-512 code, chosen at run time.
 * A kernel is written once, over groups of 16 lanes (lanes.h), in a file `NAME_body.h`;
 * `each_level.h` includes that body once a level, and FOR_LEVEL(NAME) lists the results in the order of `enum level`.
 * By hand, not left to the compiler: gcc 12 auto-vectorises Philox and the encoder to less than half of this speed.
 * Every lane does the same IEEE operations at every level (-ffp-contract=off), so results are identical to the bit. */
#ifndef ZIPML_SIMD_H
#define ZIPML_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum level { LEVEL_SCALAR = 0, LEVEL_AVX2 = 1, LEVEL_AVX512 = 2, LEVEL_COUNT = 3 };

#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)

#if defined(__GNUC__) || defined(__clang__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define ALIGNED64 __attribute__((aligned(64)))
#define UNROLL(n) _Pragma(CAT_STRING(GCC unroll n))
#define CAT_STRING(x) #x
#else
#define ALWAYS_INLINE static inline
#define ALIGNED64
#define UNROLL(n)
#endif

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__) && !defined(ZIPML_SCALAR_ONLY)
#define ZIPML_X86 1
#include <immintrin.h>
#define TARGET_avx2 __attribute__((target("avx2")))
#define TARGET_avx512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")))
#define FOR_LEVEL(name) {name##_scalar, name##_avx2, name##_avx512}
#else
#define ZIPML_X86 0
#define FOR_LEVEL(name) {name##_scalar, name##_scalar, name##_scalar}
#endif
#define TARGET_scalar

/* The best level that this machine can run. */
static inline int simd_best(void)
{
#if ZIPML_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni"))
        return LEVEL_AVX512;
    if (__builtin_cpu_supports("avx2"))
        return LEVEL_AVX2;
#endif
    return LEVEL_SCALAR;
}

#endif
