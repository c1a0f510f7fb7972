/* Lists in pages: `limit` and `cursor` of a query. Every item of a list has a
 * number, never 0, by which the list is ordered (an SPI, a slot + 1, a line); the
 * cursor is the last number shown, as 16 hex digits. So a page is found anew each
 * time, and what was deleted between two pages shifts nothing. */
#ifndef NODE_API_PAGE_H
#define NODE_API_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/http_router.h"

enum {
    PAGE_LIMIT_DEFAULT = 100,
    PAGE_LIMIT_MAX = 10000,
    PAGE_AT_ONCE_MAX = 250, /* items; longer pages are streamed */
};

struct page {
    size_t limit;
    uint64_t after; /* items with a greater number; 0: from the start */
    uint64_t *keys; /* owned */
    size_t n, cap;
    uint64_t ceiling; /* greater ones cannot be on this page; 0: not known yet */
    bool failed;      /* out of memory */
};

/* False: *reply holds a 400 and there is nothing to free. */
bool page_begin(const struct http_request *request, struct page *page, struct http_reply *reply);
/* Offers an item, in any order; only what can be on this page is kept. */
void page_offer(struct page *page, uint64_t key);
/* One item; NULL when it is gone meanwhile: then it is left out. */
typedef json_t *page_render_fn(void *ctx, uint64_t key);
/* Replies {"items", "next_cursor"} and ends the page. A long page is rendered while it is
 * sent, so `render` may be called after this returns, with the same ctx, on this thread. */
void page_send(struct page *page, page_render_fn *render, void *ctx, struct http_reply *reply);

#endif
