/* Lists in pages: limits, cursors, and that pages put together are the list. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api_page.h"
#include "proto/err.h"

static struct http_url url;

static bool begin(const char *target, struct page *page, struct http_reply *reply)
{
    struct http_request request = {.method = "GET", .url = &url};

    cr_assert_eq(http_url_parse(target, &url), ERR_OK);
    return page_begin(&request, page, reply);
}

Test(http_page, bad_parameters_are_refused)
{
    static const char *const bad[] = {
        "/?limit=0",
        "/?limit=10001",
        "/?limit=99999999999999999999",
        "/?limit=",
        "/?limit=-1",
        "/?limit=1x",
        "/?limit=%201",
        "/?cursor=",
        "/?cursor=zz",
        "/?cursor=000000000000000g",
        "/?cursor=00000000000000001",
        "/?cursor=000000000000000A",
        "/?cursor=+00000000000000",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct page page;
        struct http_reply reply = {0};
        cr_expect_not(begin(bad[i], &page, &reply), "%s", bad[i]);
        cr_expect_eq(reply.status, 400, "%s", bad[i]);
        free(reply.body);
    }
}

Test(http_page, good_parameters)
{
    struct page page;
    struct http_reply reply = {0};

    cr_assert(begin("/", &page, &reply));
    cr_expect_eq(page.limit, 100);
    cr_expect_eq(page.after, 0);
    cr_assert(begin("/?limit=10000&cursor=00000000deadbeef", &page, &reply));
    cr_expect_eq(page.limit, 10000);
    cr_expect_eq(page.after, 0xdeadbeef);
}

/* The number itself; 13 is gone by the time it is asked for. */
static json_t *number(void *ctx, uint64_t key)
{
    cr_assert_eq(ctx, &url);
    return key == 13 ? NULL : json_integer((json_int_t)key);
}

/* The page over 1 ... n, offered in a scrambled order; long ones read in odd pieces. */
static json_t *show(const char *target, uint64_t n)
{
    struct page page;
    struct http_reply reply = {0};
    static char text[1 << 20];
    size_t length = 0, got;
    json_t *body;

    cr_assert(begin(target, &page, &reply));
    for (uint64_t i = 0; i < n; i++)
        page_offer(&page, i * 7919 % n + 1);
    page_send(&page, number, &url, &reply);
    cr_assert_eq(reply.status, 200);
    if (reply.stream) {
        while ((got = reply.stream->read(reply.stream, text + length, 7)) > 0)
            length += got;
    } else {
        memcpy(text, reply.body, length = reply.n);
    }
    http_reply_free(&reply);
    body = json_loadb(text, length, 0, NULL);
    cr_assert_not_null(body, "%.*s", (int)length, text);
    return body;
}

/* Walks all pages of a list of n; returns how many pages. */
static size_t walk(unsigned limit, uint64_t n)
{
    char target[64];
    json_int_t last = 0;
    size_t pages = 0, total = 0;
    bool more = true;

    snprintf(target, sizeof target, "/?limit=%u", limit);
    while (more) {
        json_t *body = show(target, n), *item;
        const char *next = json_string_value(json_object_get(body, "next_cursor"));
        size_t i;

        json_array_foreach(json_object_get(body, "items"), i, item)
        {
            cr_assert(json_integer_value(item) > last);
            last = json_integer_value(item);
            total++;
        }
        more = next != NULL;
        if (more)
            snprintf(target, sizeof target, "/?limit=%u&cursor=%s", limit, next);
        json_decref(body);
        pages++;
    }
    cr_expect_eq(total, n >= 13 ? n - 1 : n, "limit %u of %zu: %zu", limit, (size_t)n, total);
    return pages;
}

Test(http_page, pages_make_the_list)
{
    cr_expect_eq(walk(64, 1000), 16);
    cr_expect_eq(walk(1, 20), 20);
    cr_expect_eq(walk(10, 10), 1); /* an exact fit has no next page */
    cr_expect_eq(walk(10, 0), 1);
    cr_expect_eq(walk(10000, 12), 1);
}

Test(http_page, long_pages_are_streamed)
{
    cr_expect_eq(walk(PAGE_AT_ONCE_MAX, 1000), 4);
    cr_expect_eq(walk(PAGE_AT_ONCE_MAX + 1, 1000), 4);
    cr_expect_eq(walk(700, 1000), 2);
    cr_expect_eq(walk(10000, 10000), 1);
    cr_expect_eq(walk(9999, 10000), 2);
}
