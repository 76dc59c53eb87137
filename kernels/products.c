/* Codes by model and residuals by codes, in unsigned by signed bytes with 32-bit sums (u8 x s8: vpdpbusd, vpmaddubsw, smlal).
 * dot[r] = sum_f u_rf q_f and sum_f = sum_r e_r u_rf for the rows of a slab; both passes find the slab in L2.
 * The first pass fetches rows at random places and leaves them, in their working form, in `work` for the second; meanwhile
 * both ask for the rows that the thread takes next. Sums are exact, so every level gives the same.
 * By hand: compilers do not find these instructions. products_scalar.h says what is computed. */
#include "products.h"

#include "products_scalar.h"
#if ZIPML_X86
#include "products_avx2.h"
#include "products_avx512.h"
#elif ZIPML_NEON
#include "products_neon.h"
#endif

typedef void (*product_fn)(const slab_job *);
static const product_fn DOT[LEVEL_COUNT] = FOR_OWN_LEVEL(dot);
static const product_fn GRADIENT[LEVEL_COUNT] = FOR_OWN_LEVEL(gradient);
typedef void (*image_fn)(const integer_rows *, uint8_t *);
static int (*const PLANES[LEVEL_COUNT])(const integer_rows *) = FOR_OWN_LEVEL(planes);
static const image_fn IMAGE[LEVEL_COUNT] = {
#if ZIPML_X86
    [LEVEL_AVX512] = image_avx512,
#else
    NULL,
#endif
};

product_layout products_layout(const integer_rows *rows, int level)
{
    const int planes = PLANES[level](rows);
    const size_t width = LINE * (size_t)planes;
    return (product_layout){planes, (rows->shape.features + width - 1) / width};
}

size_t products_image_bytes(const integer_rows *rows, int level)
{
    return rows->table && IMAGE[level] ? integer_padded(rows->shape.features) << (rows->shape.bits < 4 ? 4 : rows->shape.bits) : 0;
}

void products_image(const integer_rows *rows, uint8_t *image, int level)
{
    if (products_image_bytes(rows, level))
        IMAGE[level](rows, image);
}

void products_dot(const slab_job *job, int level) { DOT[level](job); }

void products_gradient(const slab_job *job, int level) { GRADIENT[level](job); }
