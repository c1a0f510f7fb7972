#include "node/api_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"

enum { CURSOR_DIGITS = 16, CURSOR_TEXT = CURSOR_DIGITS + 3 };

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

/* How many items the page shows: page->keys[0 ... n - 1]. */
static size_t sort(struct page *page)
{
    if (page->n > 0)
        keep_lowest(page);
    return page->n > page->limit ? page->limit : page->n;
}

/* The cursor, quoted, or null. */
static void format_next(const struct page *page, char out[CURSOR_TEXT])
{
    if (page->n > page->limit)
        snprintf(out, CURSOR_TEXT, "\"%016" PRIx64 "\"", page->keys[page->limit - 1]);
    else
        snprintf(out, CURSOR_TEXT, "null");
}

/* ---- a long page, in pieces: {"items":[ item , item ... ],"next_cursor": ... } ---- */

struct page_stream {
    struct http_stream base; /* first: freed and read through it */
    uint64_t *keys;          /* owned */
    size_t shown, at;        /* items; the next one */
    page_render_fn *render;
    void *ctx;
    bool any, ended;
    char next[CURSOR_TEXT];
    char *text; /* malloc'ed: the piece that is being sent */
    size_t n, sent;
};

/* The next piece of text; false at the end of all. */
static bool next_piece(struct page_stream *s)
{
    json_t *item = NULL;
    char *dump = NULL;
    int wrote = -1;

    free(s->text);
    s->text = NULL;
    s->n = s->sent = 0;
    if (s->ended)
        return false;
    while (!item && s->at < s->shown)
        item = s->render(s->ctx, s->keys[s->at++]);
    if (item) {
        dump = json_dumps(item, JSON_COMPACT | JSON_ENCODE_ANY);
        json_decref(item);
        wrote = dump ? asprintf(&s->text, "%s%s", s->any ? "," : "{\"items\":[", dump) : -1;
        s->any = true;
    } else {
        s->ended = true;
        wrote =
            asprintf(&s->text, "%s],\"next_cursor\":%s}", s->any ? "" : "{\"items\":[", s->next);
    }
    free(dump);
    if (wrote < 0) { /* out of memory: the body ends short and is no JSON */
        s->text = NULL;
        s->ended = true;
        return false;
    }
    s->n = (size_t)wrote;
    return true;
}

static size_t read_pieces(struct http_stream *stream, char *out, size_t max)
{
    struct page_stream *s = (struct page_stream *)(void *)stream;
    size_t n = 0;

    while (n < max) {
        size_t some;
        if (s->sent == s->n && !next_piece(s))
            break;
        some = s->n - s->sent < max - n ? s->n - s->sent : max - n;
        memcpy(out + n, s->text + s->sent, some);
        s->sent += some;
        n += some;
    }
    return n;
}

static void free_pieces(struct http_stream *stream)
{
    struct page_stream *s = (struct page_stream *)(void *)stream;

    free(s->text);
    free(s->keys);
    free(s);
}

static void send_stream(struct page *page, size_t shown, page_render_fn *render, void *ctx,
                        struct http_reply *reply)
{
    struct page_stream *s = calloc(1, sizeof *s);

    if (!s) {
        http_reply_error(reply, 500, "out_of_memory", "%s", err_text(ERR_NOMEM));
        return;
    }
    s->base = (struct http_stream){read_pieces, free_pieces};
    format_next(page, s->next);
    s->keys = page->keys;
    page->keys = NULL;
    s->shown = shown;
    s->render = render;
    s->ctx = ctx;
    http_reply_stream(reply, 200, &s->base);
}

/* ---- any page ---- */

void page_send(struct page *page, page_render_fn *render, void *ctx, struct http_reply *reply)
{
    size_t shown = sort(page);
    char next[CURSOR_TEXT];
    json_t *items;

    if (page->failed) {
        http_reply_error(reply, 500, "out_of_memory", "%s", err_text(ERR_NOMEM));
    } else if (shown > PAGE_AT_ONCE_MAX) {
        send_stream(page, shown, render, ctx, reply);
    } else {
        items = json_array();
        for (size_t i = 0; i < shown; i++) {
            json_t *item = render(ctx, page->keys[i]);
            if (item)
                json_array_append_new(items, item);
        }
        format_next(page, next);
        http_reply_json(reply, 200,
                        json_pack("{s:o, s:o}", "items", items, "next_cursor",
                                  json_loads(next, JSON_DECODE_ANY, NULL)));
    }
    free(page->keys);
    page->keys = NULL;
}
