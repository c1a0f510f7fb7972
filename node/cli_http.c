/* Asking a node: libcurl for HTTP, jansson for JSON. */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"
#include "node/config.h"
#include "node/config_internal.h"
#include "proto/err.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
    TIMEOUT_MS = 60000,
    BODY_MAX = 256 << 20, /* bytes */
    URL_MAX = 4096,
    PAGE_ITEMS = 1000,
    HTTP_OK = 200,
    HTTP_UNAUTHORIZED = 401,
    HTTP_UNAVAILABLE = 503,
};

struct body {
    char *p;
    size_t n, room;
};

/* libcurl's write callback; taking less than it gave ends the transfer. */
static size_t take_bytes(char *bytes, size_t one, size_t n, void *ctx)
{
    struct body *b = ctx;

    (void)one;
    if (n > BODY_MAX - b->n)
        return 0;
    if (b->n + n > b->room) {
        size_t room = (b->n + n) * 2;
        char *p = realloc(b->p, room);
        if (!p)
            return 0;
        b->p = p;
        b->room = room;
    }
    memcpy(b->p + b->n, bytes, n);
    b->n += n;
    return n;
}

static bool is_printable(const uint8_t *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return false;
    return n > 0;
}

/* Appends the Authorization header; the list (and only libcurl's copy of it) holds the token. */
static int add_token(const struct cli *cli, struct curl_slist **headers)
{
    struct config_error err = {.line = 0};
    struct config_source src = {.file = cli->token_file, .err = &err};
    struct config_at place = {.src = &src};
    char line[CONFIG_ERROR_LINE], header[CONFIG_TOKEN_MAX + 32];
    struct curl_slist *more;
    struct file_bytes f;

    if (!cli->token_file)
        return CLI_FINE;
    if (config_read_file(place, cli->token_file, CONFIG_TOKEN_MAX + 1, true, &f) != ERR_OK) {
        fprintf(stderr, "%s\n", config_error_format(&err, line));
        return CLI_USAGE;
    }
    file_bytes_chop(&f);
    if (!is_printable(f.p, f.n)) {
        fprintf(stderr, "anysa: %s is not a token: one line without spaces\n", cli->token_file);
        file_bytes_free(&f);
        return CLI_USAGE;
    }
    snprintf(header, sizeof header, "Authorization: Bearer %s", (const char *)f.p);
    file_bytes_free(&f);
    more = curl_slist_append(*headers, header);
    wipe(header, sizeof header);
    if (!more)
        return CLI_FAILED;
    *headers = more;
    return CLI_FINE;
}

static void free_headers(struct curl_slist *headers)
{
    for (struct curl_slist *h = headers; h; h = h->next)
        wipe(h->data, strlen(h->data));
    curl_slist_free_all(headers);
}

static void set_options(CURL *curl, const struct cli *cli, const char *url,
                        struct curl_slist *headers, char *error, struct body *body)
{
    if (cli->ca_file) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, cli->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*"); /* the token is for the node alone */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "anysa/" ANYSA_VERSION);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
}

static const char *remedy(CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return "name the file of its CA (--ca), and the node as its certificate does (--url)";
    case CURLE_SSL_CACERT_BADFILE:
        return "is that a file with certificates? (--ca)";
    default:
        return "is anysad running there? (--url)";
    }
}

/* GET, or a POST without a body. */
static int fetch(const struct cli *cli, const char *path, bool post, long *status,
                 struct body *body)
{
    char url[URL_MAX], error[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    size_t host = strlen(cli->url);
    CURL *curl = curl_easy_init();
    CURLcode code;
    int rc;

    if (!curl)
        return CLI_FAILED;
    while (host && cli->url[host - 1] == '/')
        host--;
    snprintf(url, sizeof url, "%.*s%s", (int)host, cli->url, path);
    rc = add_token(cli, &headers);
    if (rc == CLI_FINE) {
        set_options(curl, cli, url, headers, error, body);
        if (post) {
            curl_easy_setopt(curl, CURLOPT_POST, 1L);
            curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, 0L);
        }
        code = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
        if (code != CURLE_OK) {
            fprintf(stderr, "anysa: no answer from %s: %s; %s\n", cli->url,
                    error[0] ? error : curl_easy_strerror(code), remedy(code));
            rc = CLI_FAILED;
        }
    }
    curl_easy_cleanup(curl);
    free_headers(headers);
    return rc;
}

static int tell_refusal(const struct cli *cli, const char *path, long status, const json_t *body)
{
    const json_t *message = json_object_get(json_object_get(body, "error"), "message");
    char *text = message ? cli_cell(message) : NULL;

    fprintf(stderr, "anysa: %s answered %ld to %s%s%s%s\n", cli->url, status, path,
            text ? ": " : "", text ? text : "",
            status == HTTP_UNAUTHORIZED ? "; give --token-file" : "");
    free(text);
    return CLI_FAILED;
}

static int ask(const struct cli *cli, const char *path, bool post, long *status, json_t **body)
{
    struct body raw = {0};
    json_error_t error = {.line = 0};
    int rc = fetch(cli, path, post, status, &raw);

    *body = NULL;
    if (rc == CLI_FINE) {
        *body = json_loadb(raw.n ? raw.p : "", raw.n, 0, &error);
        if (*status != HTTP_OK && *status != HTTP_UNAVAILABLE) {
            rc = tell_refusal(cli, path, *status, *body);
        } else if (!json_is_object(*body)) {
            fprintf(stderr, "anysa: the answer of %s%s is not a JSON object; is it anysad's URL?\n",
                    cli->url, path);
            rc = CLI_FAILED;
        }
    }
    free(raw.p);
    if (rc != CLI_FINE) {
        json_decref(*body);
        *body = NULL;
    }
    return rc;
}

int cli_get(const struct cli *cli, const char *path, long *status, json_t **body)
{
    return ask(cli, path, false, status, body);
}

int cli_post(const struct cli *cli, const char *path, json_t **body)
{
    long status = 0;

    return ask(cli, path, true, &status, body);
}

static int get_page(const struct cli *cli, const char *path, const char *cursor, json_t **page)
{
    char *escaped = cursor ? curl_easy_escape(NULL, cursor, 0) : NULL;
    char full[URL_MAX];
    long status = 0;
    int rc;

    snprintf(full, sizeof full, "%s?limit=%d%s%s", path, PAGE_ITEMS, escaped ? "&cursor=" : "",
             escaped ? escaped : "");
    curl_free(escaped);
    rc = cli_get(cli, full, &status, page);
    if (rc == CLI_FINE && status != HTTP_OK) {
        rc = tell_refusal(cli, full, status, *page);
        json_decref(*page);
        *page = NULL;
    }
    return rc;
}

int cli_get_list(const struct cli *cli, const char *path, json_t **items)
{
    char *cursor = NULL;
    int rc;

    *items = json_array();
    do {
        json_t *page;
        const char *next;

        rc = get_page(cli, path, cursor, &page);
        if (rc != CLI_FINE)
            break;
        json_array_extend(*items, json_object_get(page, "items"));
        next = json_string_value(json_object_get(page, "next_cursor"));
        if (next && cursor && strcmp(next, cursor) == 0) {
            fprintf(stderr, "anysa: %s%s gives the same page again\n", cli->url, path);
            rc = CLI_FAILED;
            next = NULL;
        }
        free(cursor);
        cursor = next ? strdup(next) : NULL;
        json_decref(page);
    } while (cursor);
    free(cursor);
    if (rc != CLI_FINE) {
        json_decref(*items);
        *items = NULL;
    }
    return rc;
}
