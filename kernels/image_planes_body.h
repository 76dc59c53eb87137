/* Blocks of 8 rows x 64 features at one vector level: see image_planes.c. */

LANE_FN void LEVELED(exchange)(uint32_t (*lines)[WORDS], int j, uint32_t mask)
{
    for (int k = 0; k < WEAVE_PLANES; k = ((k | j) + 1) & ~j) {
        const u16 a = u_load(lines[k]), b = u_load(lines[k + j]);
        const u16 t = u_and(u_xor3(a, u_shr(b, j), u_set(0)), u_set(mask));
        u_store(lines[k], u_xor3(a, t, u_set(0)));
        u_store(lines[k + j], u_xor3(b, u_shl(t, j), u_set(0)));
    }
}

LANE_FN void LEVELED(transpose)(uint32_t (*lines)[WORDS])
{
    LEVELED(exchange)(lines, 16, 0x0000ffff);
    LEVELED(exchange)(lines, 8, 0x00ff00ff);
    LEVELED(exchange)(lines, 4, 0x0f0f0f0f);
    LEVELED(exchange)(lines, 2, 0x33333333);
    LEVELED(exchange)(lines, 1, 0x55555555);
}

/* Values of `count` <= 32 features: 2^32 - 1 times the share, cut off. In two halves of 16 bits, which vector conversions have. */
LANE_FN void LEVELED(scale)(uint32_t *values, const float *x, const double *low, const double *span, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const double share = (x[i] - low[i]) / (span[i] > 0 ? span[i] : HUGE_VAL);
        const double v = (share < 0 ? 0 : share > 1 ? 1 : share) * 4294967295.0;
        const int32_t high = (int32_t)(v * 0x1p-16), rest = (int32_t)(v - high * 0x1p16);
        values[i] = (uint32_t)high << 16 | (uint32_t)rest;
    }
}

KERNEL_FN void LEVELED(weave_any)(const weave_all *own, size_t group)
{
    const weave_job *job = own->job;
    const size_t chunks = chunks_of(job), rows = rows_of(job, group);
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        uint32_t (*lines)[WORDS] = (uint32_t (*)[WORDS])(own->lines + (group * chunks + chunk) * WEAVE_PLANES * WORDS);
        uint32_t values[HALF] ALIGNED64;
        if (rows < WEAVE_ROWS)
            memset(lines, 0, WEAVE_PLANES * sizeof *lines);
        for (size_t s = 0; s < rows; s++)
            for (size_t half = 0; half < 2; half++) {
                const size_t first = chunk * WEAVE_FEATURES + half * HALF;
                const size_t left = job->features > first ? job->features - first : 0, count = left < HALF ? left : HALF;
                const float *x = own->x + (group * WEAVE_ROWS + s) * job->features + first;
                if (count == HALF) {
                    LEVELED(scale)(values, x, job->low + first, job->span + first, HALF);
                } else {
                    memset(values, 0, sizeof values);
                    if (count)
                        LEVELED(scale)(values, x, job->low + first, job->span + first, count);
                    if (job->stored > job->features && job->features >= first)
                        values[count] = UINT32_MAX;
                }
                for (size_t i = 0; i < HALF; i++)
                    lines[HALF - 1 - i][2 * s + half] = values[i];
            }
        LEVELED(transpose)(lines);
    }
}

KERNEL_FN void LEVELED(unweave_any)(const weave_all *own, size_t group)
{
    const weave_job *job = own->job;
    const size_t chunks = chunks_of(job), rows = rows_of(job, group);
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        uint32_t lines[WEAVE_PLANES][WORDS] ALIGNED64;
        memcpy(lines, own->lines + (group * chunks + chunk) * WEAVE_PLANES * WORDS, sizeof lines);
        LEVELED(transpose)(lines);
        for (size_t s = 0; s < rows; s++)
            for (size_t i = 0, f = chunk * WEAVE_FEATURES; i < WEAVE_FEATURES && f < job->features; i++, f++) {
                const double share = lines[HALF - 1 - i % HALF][2 * s + i / HALF] / 4294967295.0;
                own->out[(group * WEAVE_ROWS + s) * job->features + f] = (float)(job->low[f] + share * job->span[f]);
            }
    }
}
