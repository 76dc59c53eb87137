/* Sums and products of doubles as unevaluated pairs hi + lo, about 104 bits: what certificates are computed in.
 * sum: Knuth's two-sum, the error of an addition is a double. product: Dekker's, halves of 26 bits multiply exactly.
 * No fused multiply-add: it is a function call where the compiler may not assume the instruction.
 * Relative error of each function below: at most 2^-102 of the operands' magnitudes (not of the result).
 * By hand: long double is 64 bits on some machines and 53 on others; the compiler must not contract or reassociate. */
#ifndef ZIPML_TWOFOLD_H
#define ZIPML_TWOFOLD_H

typedef struct { double hi, lo; } twofold;

static inline twofold two_sum(double a, double b)
{
    const double s = a + b, t = s - a;
    return (twofold){s, (a - (s - t)) + (b - t)};
}

static inline twofold two_product(double a, double b)
{
    const double split = 134217729.0; /* 2^27 + 1 */
    const double ta = split * a, tb = split * b, p = a * b;
    const double ah = ta - (ta - a), al = a - ah, bh = tb - (tb - b), bl = b - bh;
    return (twofold){p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
}

static inline twofold quick(double hi, double lo) /* |hi| >= |lo| */
{
    const double s = hi + lo;
    return (twofold){s, lo - (s - hi)};
}

static inline twofold add(twofold a, twofold b)
{
    const twofold s = two_sum(a.hi, b.hi), t = two_sum(a.lo, b.lo), u = quick(s.hi, s.lo + t.hi);
    return quick(u.hi, u.lo + t.lo);
}

static inline twofold minus(twofold a, twofold b)
{
    return add(a, (twofold){-b.hi, -b.lo});
}

static inline twofold plus(twofold a, double b)
{
    const twofold s = two_sum(a.hi, b);
    return quick(s.hi, s.lo + a.lo);
}

static inline twofold times(twofold a, twofold b)
{
    const twofold p = two_product(a.hi, b.hi);
    return quick(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

static inline double value(twofold a)
{
    return a.hi + a.lo;
}

#endif
