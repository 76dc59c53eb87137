/* Vector levels: how one kernel body becomes scalar, AVX2 and AVX-512 code, chosen at run time; or scalar and NEON code.
 * A kernel is written once, over groups of 16 lanes (lanes.h), in a file `NAME_body.h`;
 * `each_level.h` includes that body once a level, and FOR_LEVEL(NAME) lists the results in the order of `enum level`.
 * By hand, not left to the compiler: gcc 12 auto-vectorises Philox and the encoder to less than half of this speed.
 * Every lane does the same IEEE operations at every level (-ffp-contract=off), so results are identical to the bit. */
#ifndef ZIPML_SIMD_H
#define ZIPML_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)

#if defined(__GNUC__) || defined(__clang__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define ALIGNED64 __attribute__((aligned(64)))
#define UNROLL(n) _Pragma(CAT_STRING(GCC unroll n))
#define PREFETCH(p) __builtin_prefetch(p)
#define CAT_STRING(x) #x
#else
#define ALWAYS_INLINE static inline
#define ALIGNED64
#define UNROLL(n)
#define PREFETCH(p) (void)(p)
#endif

#define ZIPML_X86 0
#define ZIPML_NEON 0
#if (defined(__GNUC__) || defined(__clang__)) && !defined(ZIPML_SCALAR_ONLY)
#if defined(__x86_64__)
#undef ZIPML_X86
#define ZIPML_X86 1
#elif defined(__aarch64__) && defined(__ARM_NEON)
#undef ZIPML_NEON
#define ZIPML_NEON 1
#endif
#endif

/* The levels that this build knows, slowest first. FOR_LEVEL: a body over lanes, at each; FOR_OWN_LEVEL: a kernel that has code
 * of its own for each. They differ for NEON, where lanes are scalar code. */
#if ZIPML_X86
#include <immintrin.h>
#define TARGET_avx2 __attribute__((target("avx2")))
#define TARGET_avx512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")))
enum level { LEVEL_SCALAR, LEVEL_AVX2, LEVEL_AVX512, LEVEL_COUNT };
#define LEVEL_NAMES {"scalar", "avx2", "avx512"}
#define FOR_LEVEL(name) {name##_scalar, name##_avx2, name##_avx512}
#define FOR_OWN_LEVEL(name) FOR_LEVEL(name)
#elif ZIPML_NEON
#include <arm_neon.h>
enum level { LEVEL_SCALAR, LEVEL_NEON, LEVEL_COUNT };
#define LEVEL_NAMES {"scalar", "neon"}
#define FOR_LEVEL(name) {name##_scalar, name##_scalar}
#define FOR_OWN_LEVEL(name) {name##_scalar, name##_neon}
#else
enum level { LEVEL_SCALAR, LEVEL_COUNT };
#define LEVEL_NAMES {"scalar"}
#define FOR_LEVEL(name) {name##_scalar}
#define FOR_OWN_LEVEL(name) FOR_LEVEL(name)
#endif
#define TARGET_scalar

static inline const char *simd_name(int level)
{
    static const char *const names[LEVEL_COUNT] = LEVEL_NAMES;
    return names[level];
}

/* The best level that this machine can run. Every aarch64 has NEON. */
static inline int simd_best(void)
{
#if ZIPML_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni"))
        return LEVEL_AVX512;
    if (__builtin_cpu_supports("avx2"))
        return LEVEL_AVX2;
    return LEVEL_SCALAR;
#else
    return LEVEL_COUNT - 1;
#endif
}

#endif
