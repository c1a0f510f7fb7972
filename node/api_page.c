#include "node/api_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"

enum { CURSOR_DIGITS = 16 };

static bool parse_limit(const char *text, size_t *limit)
{
    size_t n = 0;

    if (strlen(text) > 5 || !text[0])
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        n = n * 10 + (size_t)(*text - '0');
    }
    *limit = n;
    return n >= 1 && n <= PAGE_LIMIT_MAX;
}

static bool parse_cursor(const char *text, uint64_t *after)
{
    uint64_t v = 0;

    if (strlen(text) != CURSOR_DIGITS || strspn(text, "0123456789abcdef") != CURSOR_DIGITS)
        return false;
    v = strtoull(text, NULL, 16);
    *after = v;
    return true;
}

bool page_begin(const struct http_request *request, struct page *page, struct http_reply *reply)
{
    const char *limit = http_url_param(request->url, "limit");
    const char *cursor = http_url_param(request->url, "cursor");

    *page = (struct page){.limit = PAGE_LIMIT_DEFAULT};
    if (limit && !parse_limit(limit, &page->limit)) {
        http_reply_error(reply, 400, "bad_limit", "limit is a number from 1 to %d", PAGE_LIMIT_MAX);
        return false;
    }
    if (cursor && !parse_cursor(cursor, &page->after)) {
        http_reply_error(reply, 400, "bad_cursor", "cursor is the next_cursor of a page before");
        return false;
    }
    return true;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Keeps the lowest limit + 1: one more than is shown tells that there is a next page. */
static void keep_lowest(struct page *page)
{
    qsort(page->keys, page->n, sizeof *page->keys, compare_keys);
    if (page->n > page->limit + 1) {
        page->n = page->limit + 1;
        page->ceiling = page->keys[page->limit];
    }
}

void page_offer(struct page *page, uint64_t key)
{
    if (page->failed || key <= page->after || (page->ceiling && key > page->ceiling))
        return;
    if (!page->keys) {
        page->cap = 2 * (page->limit + 1);
        page->keys = malloc(page->cap * sizeof *page->keys);
        page->failed = !page->keys;
        if (page->failed)
            return;
    }
    if (page->n == page->cap)
        keep_lowest(page);
    page->keys[page->n++] = key;
}

size_t page_close(struct page *page)
{
    if (page->n > 0)
        keep_lowest(page);
    return page->n > page->limit ? page->limit : page->n;
}

void page_reply(struct page *page, json_t *items, struct http_reply *reply)
{
    char cursor[CURSOR_DIGITS + 1];
    json_t *next;

    if (page->n > page->limit) {
        snprintf(cursor, sizeof cursor, "%016" PRIx64, page->keys[page->limit - 1]);
        next = json_string(cursor);
    } else {
        next = json_null();
    }
    if (page->failed) {
        json_decref(items);
        json_decref(next);
        http_reply_error(reply, 500, "out_of_memory", "%s", err_text(ERR_NOMEM));
    } else {
        http_reply_json(reply, 200, json_pack("{s:o, s:o}", "items", items, "next_cursor", next));
    }
    free(page->keys);
    page->keys = NULL;
}
