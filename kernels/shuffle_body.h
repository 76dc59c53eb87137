/* Fisher and Yates from the end, at one vector level: see shuffle.c. 16 counters make the words of 64 places. */
#include "philox_body.h"

KERNEL_FN void LEVELED(shuffle)(uint64_t *values, size_t count, uint32_t column, uint32_t window, const philox_keys *keys)
{
    for (size_t block = (count + 63) / 64; block--;) {
        uint32_t words[4][16] ALIGNED64;
        u16 c[4] = {u_set(column), u_iota((uint32_t)(16 * block)), u_set(window), u_set(PURPOSE_ORDER << 16)};
        philox_rounds(c, keys);
        UNROLL(4)
        for (int q = 0; q < 4; q++)
            u_store(words[q], c[q]);
        const size_t last = count - 64 * block < 64 ? count - 64 * block : 64;
        for (size_t at = last; at--;) {
            const size_t i = 64 * block + at, j = (size_t)(((uint64_t)words[at % 4][at / 4] * (i + 1)) >> 32);
            const uint64_t value = values[i];
            values[i] = values[j];
            values[j] = value;
        }
    }
}
