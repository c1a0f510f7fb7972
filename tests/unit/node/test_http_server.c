/* The server on a real socket: a client on a thread of the pool talks to it while
 * the test's own thread runs the loop. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "node/api_page.h"
#include "node/http.h"
#include "proto/err.h"

enum { ANSWER_MAX = 65536 };

static void hello(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    const char *x = http_url_param(request->url, "x");

    (void)ctx;
    http_reply_json(reply, 200, json_pack("{s:s}", "x", x ? x : ""));
}

static json_t *number(void *ctx, uint64_t key)
{
    (void)ctx;
    return json_integer((json_int_t)key);
}

static void numbers(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct page page;

    if (!page_begin(request, &page, reply))
        return;
    for (uint64_t i = 1; i <= 5000; i++)
        page_offer(&page, i);
    page_send(&page, number, ctx, reply);
}

static const struct http_route routes[] = {
    {"GET", "/numbers", numbers, .open_to_all = true},
    {"GET", "/open", hello, .open_to_all = true},
    {"GET", "/closed", hello, false},
};
static const struct http_site site = {.routes = routes, .n_routes = 3, .token = "secret"};

struct client {
    uv_work_t work;
    uint16_t port;
    const char *request;
    size_t n;
    char answer[ANSWER_MAX];
};

static void talk(uv_work_t *work)
{
    struct client *c = work->data;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(c->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t n = 0;
    ssize_t got;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        send(fd, c->request, c->n, MSG_NOSIGNAL) >= 0) {
        while (n < sizeof c->answer - 1 &&
               (got = recv(fd, c->answer + n, sizeof c->answer - 1 - n, 0)) > 0)
            n += (size_t)got;
    }
    c->answer[n] = 0;
    close(fd);
}

static void on_talked(uv_work_t *work, int status)
{
    (void)status;
    uv_stop(work->loop);
}

/* Starts a server, sends the bytes, returns the whole answer (static storage). */
static const char *exchange(const char *request, size_t n)
{
    static struct client c;
    struct endpoint listen = {.ip = {4, {127, 0, 0, 1}}};
    struct http *http;
    uv_loop_t loop;

    uv_loop_init(&loop);
    cr_assert_eq(http_open(&loop, &listen, &site, &http), ERR_OK);
    c = (struct client){.port = http_port(http), .request = request, .n = n};
    c.work.data = &c;
    uv_queue_work(&loop, &c.work, talk, on_talked);
    uv_run(&loop, UV_RUN_DEFAULT);
    http_close(http);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_expect_eq(uv_loop_close(&loop), 0);
    return c.answer;
}

static const char *ask(const char *request)
{
    return exchange(request, strlen(request));
}

#define END "Host: h\r\nConnection: close\r\n\r\n"

static void expect(const char *answer, const char *status, const char *part)
{
    char line[64];

    snprintf(line, sizeof line, "HTTP/1.1 %s ", status);
    cr_expect_eq(strncmp(answer, line, strlen(line)), 0, "wanted %s, got: %.80s", status, answer);
    cr_expect_not_null(strstr(answer, part), "no %s in: %.400s", part, answer);
}

Test(http_server, a_get)
{
    const char *answer = ask("GET /open?x=a%20b+c HTTP/1.1\r\n" END);

    expect(answer, "200", "{\"x\":\"a b c\"}");
    expect(answer, "200", "Content-Type: application/json\r\n");
    expect(answer, "200", "Cache-Control: no-store\r\n");
}

Test(http_server, a_head_has_no_body)
{
    const char *answer = ask("HEAD /open HTTP/1.1\r\n" END);

    expect(answer, "200", "Content-Length: 8\r\n");
    cr_expect_str_eq(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
}

Test(http_server, the_token)
{
    expect(ask("GET /closed HTTP/1.1\r\n" END), "401", "\"code\":\"unauthorized\"");
    expect(ask("GET /closed HTTP/1.1\r\n" END), "401", "WWW-Authenticate: Bearer\r\n");
    expect(ask("GET /closed HTTP/1.1\r\nAuthorization: Bearer secret\r\n" END), "200", "{\"x\"");
    expect(ask("GET /closed HTTP/1.1\r\nAuthorization: Bearer wrong\r\n" END), "401", "error");
}

Test(http_server, other_methods_and_paths)
{
    expect(ask("POST /open HTTP/1.1\r\nContent-Length: 2\r\n" END "{}"), "405",
           "Allow: GET, HEAD\r\n");
    expect(ask("DELETE /open HTTP/1.1\r\n" END), "405", "method_not_allowed");
    expect(ask("GET /nothing HTTP/1.1\r\nAuthorization: Bearer secret\r\n" END), "404",
           "{\"error\":{\"code\":\"not_found\"");
}

Test(http_server, malformed_targets)
{
    expect(ask("GET /open?x=%zz HTTP/1.1\r\n" END), "400", "bad_target");
    expect(ask("GET /open%00/closed HTTP/1.1\r\n" END), "400", "bad_target");
    expect(ask("GET /%6fpen HTTP/1.1\r\n" END), "200", "{\"x\"");
}

Test(http_server, a_long_target)
{
    static char request[16384];
    size_t n = (size_t)snprintf(request, sizeof request, "GET /open?x=");

    memset(request + n, 'a', 3000);
    snprintf(request + n + 3000, sizeof request - n - 3000, " HTTP/1.1\r\n" END);
    expect(ask(request), "414", "target_too_long");
}

Test(http_server, headers_beyond_the_limit)
{
    static char request[2 * HTTP_CONNECTION_BYTES_MAX];
    size_t n = (size_t)snprintf(request, sizeof request, "GET /open HTTP/1.1\r\nX: ");

    memset(request + n, 'a', sizeof request - n);
    expect(exchange(request, sizeof request), "431", "");
}

Test(http_server, a_body_beyond_the_limit)
{
    expect(ask("POST /open HTTP/1.1\r\nContent-Length: 5000\r\n" END), "413", "body_too_large");
    expect(ask("POST /open HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n" END), "413",
           "");
}

Test(http_server, a_long_list)
{
    const char *answer = ask("GET /numbers?limit=4000 HTTP/1.0\r\n\r\n"), *body;
    json_t *list;

    cr_assert_not_null(strstr(answer, " 200 OK"));
    body = strstr(answer, "\r\n\r\n");
    list = json_loads(body ? body : "", 0, NULL);
    cr_assert_not_null(list);
    cr_expect_eq(json_array_size(json_object_get(list, "items")), 4000);
    cr_expect_str_eq(json_string_value(json_object_get(list, "next_cursor")), "0000000000000fa0");
    json_decref(list);
    expect(ask("GET /numbers?limit=4000 HTTP/1.1\r\n" END), "200", "Transfer-Encoding: chunked");
    expect(ask("HEAD /numbers?limit=4000 HTTP/1.1\r\n" END), "200", "application/json");
}

/* The client is gone before the list is sent: nothing may leak (the sanitizers look). */
Test(http_server, a_long_list_that_nobody_reads)
{
    static char request[4096];
    size_t n = 0;

    while (n < sizeof request - 128)
        n += (size_t)snprintf(request + n, sizeof request - n,
                              "GET /numbers?limit=5000 HTTP/1.1\r\nHost: h\r\n\r\n");
    expect(exchange(request, n), "200", "\"items\":[1,2,3");
}

Test(http_server, two_requests_on_one_connection)
{
    const char *answer = ask("GET /open?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"
                             "GET /open?x=2 HTTP/1.1\r\n" END);

    expect(answer, "200", "{\"x\":\"1\"}");
    expect(answer, "200", "{\"x\":\"2\"}");
}

/* The body of a GET must not be taken for the next request. */
Test(http_server, a_get_with_a_body)
{
    const char *answer = ask("GET /open?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 24\r\n\r\n"
                             "GET /nothing HTTP/1.1\r\n\r\n"
                             "GET /open?x=2 HTTP/1.1\r\n" END);

    expect(answer, "200", "{\"x\":\"1\"}");
    cr_expect_null(strstr(answer, "401"));
}

Test(http_server, a_taken_port_is_an_error)
{
    struct endpoint listen = {.ip = {4, {127, 0, 0, 1}}};
    struct http *first, *second;
    uv_loop_t loop;

    uv_loop_init(&loop);
    cr_assert_eq(http_open(&loop, &listen, &site, &first), ERR_OK);
    listen.port = http_port(first);
    cr_expect_eq(http_open(&loop, &listen, &site, &second), ERR_IO);
    cr_expect_null(second);
    http_close(first);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_expect_eq(uv_loop_close(&loop), 0);
}
