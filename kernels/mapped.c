/*
 * Maps files for reading without dying where another program cuts them off.
 * Touching a mapped page that the file no longer has, or that the disk cannot read, raises SIGBUS, which ends the process. The handler here puts
 * zeros in the place of that page and the rest of its mapping, and notes it: the caller asks mapping_lost() before it trusts what it read.
 * A fault elsewhere goes to whoever handled SIGBUS before. The handler calls sigaction, raise and mmap only, and touches nothing but atomics.
 * By hand because neither Python nor NumPy can catch SIGBUS: their handlers run after the faulting instruction, which never ends.
 */
#include "mapped.h"

#ifdef _WIN32

int mapping_open(size_t size) { (void)size; return -1; }
int mapping_place(int number, int descriptor, long long offset, size_t size, size_t at)
{
    (void)number, (void)descriptor, (void)offset, (void)size, (void)at;
    return 0;
}
const void *mapping_start(int number) { (void)number; return NULL; }
int mapping_lost(int number) { (void)number; return 1; }
void mapping_close(int number) { (void)number; }

#else

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST = 256, FREE = 0, HELD = 1, READY = 2 };

static struct {
    atomic_int state, lost;
    char *start;
    size_t size;
} mappings[MOST];
static struct sigaction before;
static uintptr_t page_size;

static int replace(uintptr_t at)
{
    for (int i = 0; i < MOST; i++) {
        if (atomic_load(&mappings[i].state) != READY)
            continue;
        uintptr_t start = (uintptr_t)mappings[i].start, end = start + mappings[i].size;
        if (at < start || at >= end)
            continue;
        uintptr_t page = at / page_size * page_size;
        atomic_store(&mappings[i].lost, 1);
        return mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    }
    return 0;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    if (info->si_code > 0 && replace((uintptr_t)info->si_addr))
        return;
    if (info->si_code > 0 && before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (info->si_code > 0 && before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else { /* a fault happens again on return; a signal that was sent is sent again */
        signal(number, SIG_DFL);
        if (info->si_code <= 0)
            raise(number);
    }
}

static int install(void)
{
    struct sigaction now, ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(SIGBUS, NULL, &now))
        return 0;
    if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_bus_error)
        return 1;
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    before = now;
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, NULL) == 0;
}

int mapping_open(size_t size)
{
    if (!install())
        return -1;
    for (int i = 0; i < MOST; i++) {
        int expected = FREE;
        if (!atomic_compare_exchange_strong(&mappings[i].state, &expected, HELD))
            continue;
        void *start = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (start == MAP_FAILED) {
            atomic_store(&mappings[i].state, FREE);
            return -1;
        }
        mappings[i].start = start;
        mappings[i].size = size;
        atomic_store(&mappings[i].lost, 0);
        atomic_store(&mappings[i].state, READY);
        return i;
    }
    return -1;
}

int mapping_place(int number, int descriptor, long long offset, size_t size, size_t at)
{
    char *start = mappings[number].start + at;
    return mmap(start, size, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, (off_t)offset) != MAP_FAILED;
}

const void *mapping_start(int number) { return mappings[number].start; }

int mapping_lost(int number) { return atomic_load(&mappings[number].lost); }

void mapping_close(int number)
{
    munmap(mappings[number].start, mappings[number].size);
    atomic_store(&mappings[number].state, FREE);
}

#endif
