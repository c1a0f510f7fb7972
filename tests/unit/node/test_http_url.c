/* Targets of requests, decoded strictly. */
#include <criterion/criterion.h>
#include <string.h>

#include "node/http_url.h"
#include "proto/err.h"

static struct http_url url;

Test(http_url, paths)
{
    static const struct {
        const char *raw;
        int err;
        const char *path;
    } rows[] = {
        {"/", ERR_OK, "/"},
        {"/v1/nodes", ERR_OK, "/v1/nodes"},
        {"/v1/n%6fdes", ERR_OK, "/v1/nodes"},
        {"/v1/n%6Fdes", ERR_OK, "/v1/nodes"},
        {"/a+b", ERR_OK, "/a+b"}, /* '+' is a space only in a query */
        {"/a%20b", ERR_OK, "/a b"},
        {"/%25", ERR_OK, "/%"},
        {"/%", ERR_INVALID, NULL},
        {"/%4", ERR_INVALID, NULL},
        {"/%zz", ERR_INVALID, NULL},
        {"/%4g", ERR_INVALID, NULL},
        {"/v1%00/nodes", ERR_INVALID, NULL},
        {"/a\tb", ERR_INVALID, NULL},
        {"", ERR_INVALID, NULL},
        {"*", ERR_INVALID, NULL},
        {"v1/nodes", ERR_INVALID, NULL},
        {"http://host/v1/nodes", ERR_INVALID, NULL},
        {"/?a=%", ERR_INVALID, NULL},
        {"/?%00=1", ERR_INVALID, NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int err = http_url_parse(rows[i].raw, &url);
        cr_expect_eq(err, rows[i].err, "%s: %s", rows[i].raw, err_text(err));
        if (err == ERR_OK)
            cr_expect_str_eq(url.path, rows[i].path, "%s", rows[i].raw);
    }
}

Test(http_url, parameters)
{
    cr_assert_eq(http_url_parse("/x?limit=10&cursor=a%26b+c&&flag&limit=11&e=", &url), ERR_OK);
    cr_expect_str_eq(http_url_param(&url, "limit"), "10");
    cr_expect_str_eq(http_url_param(&url, "cursor"), "a&b c");
    cr_expect_str_eq(http_url_param(&url, "flag"), "");
    cr_expect_str_eq(http_url_param(&url, "e"), "");
    cr_expect_null(http_url_param(&url, "none"));
    cr_expect_str_eq(url.path, "/x");
    cr_assert_eq(http_url_parse("/x?", &url), ERR_OK);
    cr_expect_eq(url.n_params, 0);
}

Test(http_url, limits)
{
    char raw[HTTP_URL_MAX + 2];

    memset(raw, 'a', sizeof raw);
    raw[0] = '/';
    raw[HTTP_URL_MAX - 1] = 0;
    cr_expect_eq(http_url_parse(raw, &url), ERR_OK);
    raw[HTTP_URL_MAX - 1] = 'a';
    raw[HTTP_URL_MAX] = 0;
    cr_expect_eq(http_url_parse(raw, &url), ERR_FULL);
    cr_expect_eq(http_url_parse("/?a&b&c&d&e&f&g&h", &url), ERR_OK);
    cr_expect_eq(http_url_parse("/?a&b&c&d&e&f&g&h&i", &url), ERR_FULL);
}
