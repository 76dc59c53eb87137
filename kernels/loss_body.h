/* Losses of 16 rows, and the proximal step of 16 coefficients, at the level being compiled. Exponential and logarithm are made of
 * additions, multiplications and divisions, so that every level has the same bits. */

/* exp(-a), a >= 0, to some 1e-7 of itself; 0 beyond 87, where float32 begins to lose digits, and where a is NaN.
 * -a = -n ln 2 + r, |r| <= ln 2 / 2, n ln 2 in two parts of which n times the first is exact; Taylor's series in r. */
LANE_FN f16 LEVELED(exp_minus)(f16 a)
{
    static const float series[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1};
    const u16 n = u_trunc(f_add(f_mul(a, f_set(0x1.715476p+0f)), f_set(0.5f)));
    const f16 times = f_from_u(n);
    const f16 r = f_sub(f_mul(times, f_set(0x1.7f7d1cp-20f)), f_sub(a, f_mul(times, f_set(0x1.62e4p-1f))));
    f16 p = f_set(1.0f / 5040);
    for (size_t i = 0; i < sizeof series / sizeof *series; i++)
        p = f_add(f_mul(p, r), f_set(series[i]));
    return f_select_ge(f_set(87), a, f_mul(p, f_from_bits(u_shl(u_sub(u_set(127), n), 23))), f_set(0));
}

/* log(1 + t), 0 <= t <= 1, to some 1e-7 of itself: 2 artanh(s), s = t / (2 + t) <= 1/3. */
LANE_FN f16 LEVELED(log_one_plus)(f16 t)
{
    static const float series[] = {1.0f / 13, 1.0f / 11, 1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3, 1};
    const f16 s = f_div(t, f_add(t, f_set(2))), square = f_mul(s, s);
    f16 p = f_set(1.0f / 15);
    for (size_t i = 0; i < sizeof series / sizeof *series; i++)
        p = f_add(f_mul(p, square), f_set(series[i]));
    return f_mul(f_add(s, s), p);
}

/* The loss's slope at predictions z and, unless it is squared, its value. A z that is NaN gives a value that is, whatever the loss:
 * divergence shows. f_max returns its second argument where one is NaN. */
LANE_FN f16 LEVELED(loss_slope)(int loss, f16 z, f16 y, f16 *value)
{
    const f16 zero = f_set(0), one = f_set(1), margin = f_mul(y, z);
    if (loss == LOSS_LOGISTIC) {
        const f16 t = LEVELED(exp_minus)(f_abs(margin));
        *value = f_add(f_max(zero, f_sub(zero, margin)), LEVELED(log_one_plus)(t));
        return f_mul(f_sub(zero, y), f_div(f_select_ge(margin, zero, t, one), f_add(one, t)));
    }
    if (loss == LOSS_HINGE) {
        *value = f_max(zero, f_sub(one, margin));
        return f_select_ge(margin, one, zero, f_sub(zero, y));
    }
    *value = zero;
    return f_sub(z, y);
}

/* Of 16 rows: predictions z become slopes, and value is their losses, both times the rows' weights; 0 where there is no row. */
LANE_FN void LEVELED(row_losses)(int loss, float *z, const float *y, const float *weight, double *value)
{
    float own[16] ALIGNED64;
    f16 lost;
    const f16 slope = LEVELED(loss_slope)(loss, f_load(z), f_load(y), &lost);
    f_store(own, loss == LOSS_SQUARED ? slope : lost);
    f_store(z, f_mul(slope, f_load(weight)));
    for (int l = 0; l < 16; l++)
        value[l] = (double)weight[l] * (loss == LOSS_SQUARED ? (double)own[l] * (double)own[l] / 2 : (double)own[l]);
}

/* Coefficients f..f+15 after a step; one that is NaN stays it. */
LANE_FN f16 LEVELED(proximal_step)(const proximal *of, f16 x, size_t f, float step)
{
    const f16 zero = f_set(0), size = f_set(step);
    if (of->shrink) {
        const f16 left = f_max(zero, f_sub(f_abs(x), f_mul(size, f_load(of->shrink + f))));
        x = f_select_ge(x, zero, left, f_sub(zero, left));
    }
    if (of->ridge)
        x = f_div(x, f_add(f_set(1), f_mul(size, f_load(of->ridge + f))));
    if (of->low)
        x = f_max(f_load(of->low + f), x);
    if (of->high)
        x = f_min(f_load(of->high + f), x);
    return x;
}
