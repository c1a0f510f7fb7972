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

/* Offers 1 ... n in a scrambled order; returns the sum of what is shown. */
static uint64_t show(struct page *page, uint64_t n, size_t *shown)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++)
        page_offer(page, i * 7919 % n + 1);
    *shown = page_close(page);
    for (size_t i = 0; i < *shown; i++) {
        cr_assert(i == 0 || page->keys[i] > page->keys[i - 1]);
        sum += page->keys[i];
    }
    return sum;
}

Test(http_page, pages_make_the_list)
{
    enum { N = 1000 };
    char target[64] = "/?limit=64";
    uint64_t sum = 0;
    size_t total = 0, pages = 0;

    for (;;) {
        struct page page;
        struct http_reply reply = {0};
        json_t *body, *next;
        size_t shown;

        cr_assert(begin(target, &page, &reply));
        sum += show(&page, N, &shown);
        total += shown;
        pages++;
        page_reply(&page, json_array(), &reply);
        cr_assert_eq(reply.status, 200);
        body = json_loadb(reply.body, reply.n, 0, NULL);
        next = json_object_get(body, "next_cursor");
        if (json_is_null(next)) {
            json_decref(body);
            free(reply.body);
            break;
        }
        snprintf(target, sizeof target, "/?limit=64&cursor=%s", json_string_value(next));
        json_decref(body);
        free(reply.body);
    }
    cr_expect_eq(total, N);
    cr_expect_eq(pages, (N + 63) / 64);
    cr_expect_eq(sum, (uint64_t)N * (N + 1) / 2);
}

Test(http_page, an_exact_fit_has_no_next_page)
{
    struct page page;
    struct http_reply reply = {0};
    size_t shown;

    cr_assert(begin("/?limit=10", &page, &reply));
    show(&page, 10, &shown);
    cr_expect_eq(shown, 10);
    page_reply(&page, json_array(), &reply);
    cr_expect_str_eq(reply.body, "{\"items\":[],\"next_cursor\":null}");
    free(reply.body);
}
