#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/err.h"
#include "proto/secret.h"

static bool all_zero(const void *bytes, size_t n)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < n; i++)
        if (b[i])
            return false;
    return true;
}

Test(secret, set_keeps_the_bytes)
{
    struct secret s = {0};

    cr_expect(secret_set(&s, "0123456789", 10) == ERR_OK);
    cr_expect(secret_slice(&s).n == 10 && memcmp(secret_slice(&s).p, "0123456789", 10) == 0);
    cr_expect(secret_set(&s, "ab", 2) == ERR_OK);
    cr_expect(s.n == 2 && all_zero(s.b + 2, SECRET_MAX - 2), "nothing is left of the longer one");
    cr_expect(secret_set(&s, NULL, 0) == ERR_OK && all_zero(&s, sizeof s));
}

Test(secret, the_longest_fits_and_a_longer_one_leaves_it_empty)
{
    uint8_t long_key[SECRET_MAX + 1];
    struct secret s = {0};

    memset(long_key, 0xaa, sizeof long_key);
    cr_expect(secret_set(&s, long_key, SECRET_MAX) == ERR_OK && s.n == SECRET_MAX);
    cr_expect(secret_set(&s, long_key, SECRET_MAX + 1) == ERR_FULL);
    cr_expect(all_zero(&s, sizeof s));
}

Test(secret, wiping)
{
    struct secret s = {0};
    uint8_t bytes[7] = {1, 2, 3, 4, 5, 6, 7};

    (void)secret_set(&s, "key", 3);
    secret_wipe(&s);
    cr_expect(all_zero(&s, sizeof s));
    wipe(bytes, 6);
    cr_expect(all_zero(bytes, 6) && bytes[6] == 7);
    wipe(NULL, 0);
}

Test(secret_alloc, memory_is_zero_aligned_and_ours_alone)
{
    static const size_t sizes[] = {0,    1,    63,   64,    65,    300,   1000,  1104,
                                   1104, 1505, 1505, 16384, 16384, 65537, 65537, 131072};
    enum { N = sizeof sizes / sizeof *sizes };
    uint8_t *p[N];

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            p[i] = secret_alloc(sizes[i]);
            cr_assert(p[i] && (uintptr_t)p[i] % (SECRET_POOLED ? 64 : 16) == 0 &&
                      all_zero(p[i], sizes[i]));
            memset(p[i], (int)i + 1, sizes[i]);
        }
        for (size_t i = 0; i < N; i++) {
            for (size_t k = 0; k < sizes[i]; k++)
                cr_assert(p[i][k] == i + 1, "%zu bytes: overwritten by another", sizes[i]);
            secret_free(p[i], sizes[i]);
        }
    }
}

Test(secret_alloc, more_than_the_largest_is_refused)
{
    cr_expect_null(secret_alloc(131073));
    cr_expect_null(secret_alloc(SIZE_MAX));
    secret_free(NULL, 0);
    secret_free(NULL, 100);
}

/* The memory stays mapped, so what free left behind can be looked at. Its first bytes
 * hold the free list's pointer. */
/* These look at pooled memory after its end, which a sanitizer rightly forbids. */
#if SECRET_POOLED
Test(secret_alloc, free_wipes)
{
    uint8_t *p = secret_alloc(256);

    memset(p, 0x5a, 256);
    secret_free(p, 256);
    cr_expect(all_zero(p + sizeof(void *), 256 - sizeof(void *)));
}
#endif

#if SECRET_POOLED
Test(secret_alloc, freed_memory_is_used_again)
{
    void *first = secret_alloc(100), *second;

    secret_free(first, 100);
    second = secret_alloc(128);
    cr_expect_eq(first, second, "both are of the class of 128");
    secret_free(second, 128);
}
#endif

/* ---- in the manner of malloc ---- */

Test(secret_malloc, any_size_moves_with_its_bytes)
{
    static const size_t sizes[] = {1, 16, 47, 48, 49, 1000, 131056, 131057, 300000, 70000, 3};
    uint8_t *p = secret_realloc(NULL, 1);

    cr_assert_not_null(p);
    p[0] = 1;
    for (size_t i = 1; i < sizeof sizes / sizeof *sizes; i++) {
        size_t kept = sizes[i - 1] < sizes[i] ? sizes[i - 1] : sizes[i];

        p = secret_realloc(p, sizes[i]);
        cr_assert(p && (uintptr_t)p % 16 == 0);
        for (size_t k = 0; k < kept; k++)
            cr_assert(p[k] == i, "%zu of %zu bytes moved", kept, sizes[i]);
        memset(p, (int)i + 1, sizes[i]);
    }
    secret_release(p);
    secret_release(NULL);
}

Test(secret_malloc, too_much_and_nothing)
{
    uint8_t *p = secret_malloc(10);

    cr_expect_null(secret_malloc(SIZE_MAX));
    cr_expect_null(secret_malloc(SIZE_MAX / 4));
    cr_expect_null(secret_realloc(p, 0), "which frees");
    p = secret_malloc(0);
    cr_expect_not_null(p);
    secret_release(p);
}

#if SECRET_POOLED
Test(secret_malloc, release_wipes)
{
    uint8_t *p = secret_malloc(200);

    memset(p, 0x5a, 200);
    secret_release(p);
    cr_expect(all_zero(p, 200));
}

Test(secret_memory, large_pieces_go_back_to_the_system)
{
    struct secret_memory before = secret_memory(), during, after;
    void *p = secret_malloc(1 << 20);

    during = secret_memory();
    secret_release(p);
    after = secret_memory();
    cr_expect(during.locked_bytes + during.unlocked_bytes >
              before.locked_bytes + before.unlocked_bytes + (1 << 20));
    cr_expect(after.locked_bytes + after.unlocked_bytes ==
              before.locked_bytes + before.unlocked_bytes);
}
#endif

static void *churn(void *seed)
{
    uint32_t x = *(uint32_t *)seed;
    uint8_t *held[16] = {0};
    size_t n[16] = {0};
    uintptr_t bad = 0;

    for (int i = 0; i < 20000; i++) {
        size_t at = (x = x * 1664525 + 1013904223) >> 28;
        if (held[at]) {
            bad |= held[at][0] != (uint8_t)at || held[at][n[at] - 1] != (uint8_t)at;
            secret_free(held[at], n[at]);
            held[at] = NULL;
        } else {
            n[at] = 1 + (x >> 8) % 2000;
            held[at] = secret_alloc(n[at]);
            bad |= !held[at];
            if (held[at])
                memset(held[at], (int)at, n[at]);
        }
    }
    for (size_t i = 0; i < 16; i++)
        secret_free(held[i], n[i]);
    return (void *)bad;
}

Test(secret_alloc, threads_share_it)
{
    pthread_t threads[4];
    uint32_t seeds[4] = {1, 2, 3, 4};
    void *bad;

    for (int i = 0; i < 4; i++)
        cr_assert(pthread_create(&threads[i], NULL, churn, &seeds[i]) == 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &bad);
        cr_expect_null(bad);
    }
}

/* A refused lock is survived: the memory is used and one warning given. */
Test(secret_alloc, works_without_the_right_to_lock)
{
    struct rlimit none = {0, 0};
    void *p;

    (void)setrlimit(RLIMIT_MEMLOCK, &none);
    p = secret_alloc(5000);
    cr_expect_not_null(p);
    secret_free(p, 5000);
}

/* VmFlags of the mapping must say "dd": do not dump. */
#if SECRET_POOLED
Test(secret_alloc, memory_stays_out_of_core_dumps)
{
    uint8_t *p = secret_alloc(1);
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long lo, hi;
    bool mine = false, dont_dump = false;

    cr_assert(p && f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &lo, &hi) == 2)
            mine = (uintptr_t)p >= lo && (uintptr_t)p < hi;
        else if (mine && strncmp(line, "VmFlags:", 8) == 0)
            dont_dump = strstr(line, " dd") != NULL;
    }
    fclose(f);
    cr_expect(dont_dump);
    secret_free(p, 1);
}
#endif

Test(secret, a_hardened_process_dumps_no_core)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct rlimit now;
        bool ok = secret_harden_process() == ERR_OK && getrlimit(RLIMIT_CORE, &now) == 0 &&
                  now.rlim_cur == 0 && now.rlim_max == 0;
        _exit(ok ? 0 : 1);
    }
    cr_assert(child > 0 && waitpid(child, &status, 0) == child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
