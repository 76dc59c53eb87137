/* Includes the file named by BODY once for every vector level, with LEVEL set: see simd.h. No include guard: on purpose. */
#include "simd.h"

#define LEVEL scalar
#include "lanes_scalar.h"
#include "lanes.h"
#include BODY
#undef LEVEL

#if ZIPML_X86
#define LEVEL avx2
#include "lanes_avx2.h"
#include "lanes.h"
#include BODY
#undef LEVEL

#define LEVEL avx512
#include "lanes_avx512.h"
#include "lanes.h"
#include BODY
#undef LEVEL
#endif
#undef BODY
