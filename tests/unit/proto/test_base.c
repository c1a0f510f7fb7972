/* Errors, log and clock. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/env.h"
#include "proto/err.h"
#include "proto/log.h"

Test(err, every_code_has_its_own_sentence)
{
    for (int a = 0; a < ERR_COUNT; a++) {
        cr_assert_not_null(err_text(a));
        cr_expect(*err_text(a), "code %d", a);
        for (int b = 0; b < a; b++)
            cr_expect_str_neq(err_text(a), err_text(b));
    }
    cr_expect(ERR_OK == 0);
}

Test(err, unknown_codes_are_survived)
{
    cr_expect_not_null(err_text(-1));
    cr_expect_str_eq(err_text(ERR_COUNT), err_text(-1));
}

static char last[2048];
static int lines;

static void remember(enum log_level level, const char *area, const char *text)
{
    snprintf(last, sizeof last, "%s %s %s", log_level_name(level), area, text);
    lines++;
}

Test(log, a_line_reaches_the_sink_with_level_and_area)
{
    log_set_sink(remember);
    log_info("ike", "SA %d from %s", 7, "peer");
    cr_expect_str_eq(last, "info ike SA 7 from peer");
    cr_expect(lines == 1);
}

Test(log, levels_below_the_lowest_are_dropped)
{
    log_set_sink(remember);
    log_set_level(LOG_LEVEL_WARN);
    log_debug("x", "no");
    log_info("x", "no");
    cr_expect(lines == 0);
    log_warn("x", "yes");
    log_error("x", "yes");
    cr_expect(lines == 2);
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("x", "yes");
    cr_expect(lines == 3);
}

Test(log, text_of_peers_cannot_forge_lines)
{
    log_set_sink(remember);
    log_info("ike", "id %s", "a\nb\x1b[2J\x7f");
    cr_expect_str_eq(last, "info ike id a?b?[2J?");
}

Test(log, long_text_is_cut)
{
    char text[4096];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    log_set_sink(remember);
    log_info("x", "%s", text);
    cr_expect(strlen(last) < 1100 && strlen(last) > 1000);
}

Test(env, clocks_run_forward)
{
    struct now a = now_read(), b = now_read();

    cr_expect(b.mono_us >= a.mono_us);
    cr_expect(a.wall_ms > INT64_C(1600000000000), "in milliseconds since 1970");
}

static void count_up(void *ctx, uint8_t *out, size_t n)
{
    uint8_t *next = ctx;

    for (size_t i = 0; i < n; i++)
        out[i] = (*next)++;
}

Test(env, an_injected_generator_replays)
{
    uint8_t a = 1, b = 1;
    struct rng first = {count_up, &a}, second = {count_up, &b};

    cr_expect(rng_u32(&first) == rng_u32(&second));
    cr_expect(rng_u64(&first) == rng_u64(&second));
    cr_expect(rng_u64(&rng_system) != rng_u64(&rng_system));
}
