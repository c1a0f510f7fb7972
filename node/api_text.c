#include "node/api_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/crypto.h"
#include "proto/err.h"

/* "2026-01-02T03:04:05", and the milliseconds that are left. */
static unsigned format_seconds(int64_t wall_ms, char out[TIME_TEXT])
{
    int64_t ms = wall_ms % 1000;
    time_t seconds;
    struct tm tm;

    if (ms < 0)
        ms += 1000;
    seconds = (time_t)((wall_ms - ms) / 1000);
    gmtime_r(&seconds, &tm);
    if (strftime(out, TIME_TEXT - 8, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        out[0] = 0;
    return (unsigned)ms;
}

char *time_format_ms(int64_t wall_ms, char out[TIME_TEXT])
{
    unsigned ms = format_seconds(wall_ms, out);
    size_t n = strlen(out);

    snprintf(out + n, TIME_TEXT - n, ".%03uZ", ms);
    return out;
}

char *time_format_us(int64_t wall_ms, uint32_t us, char out[TIME_TEXT])
{
    unsigned ms = format_seconds(wall_ms, out);
    size_t n = strlen(out);

    snprintf(out + n, TIME_TEXT - n, ".%03u%03uZ", ms, us % 1000);
    return out;
}

char *ike_spi_format(uint64_t spi, char out[SPI_TEXT])
{
    snprintf(out, SPI_TEXT, "0x%016" PRIx64, spi);
    return out;
}

char *esp_spi_format(uint32_t spi, char out[SPI_TEXT])
{
    snprintf(out, SPI_TEXT, "0x%08" PRIx32, spi);
    return out;
}

char *hex_format(const uint8_t *bytes, size_t n, char out[HEX_TEXT])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = 0;
    return out;
}

json_t *json_text(const char *text)
{
    json_t *value = json_string(text);
    char plain[1024];
    size_t n = 0;

    if (value)
        return value;
    for (; text[n] && n < sizeof plain - 1; n++)
        plain[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
    plain[n] = 0;
    return json_string(plain);
}

json_t *json_time(int64_t wall_ms)
{
    char text[TIME_TEXT];

    return json_string_nocheck(time_format_ms(wall_ms, text));
}

json_t *json_counter(uint64_t n)
{
    return json_integer((json_int_t)n);
}

json_t *json_selectors(const struct selector_list *list)
{
    json_t *array = json_array();
    char text[SELECTOR_TEXT];

    for (size_t i = 0; array && i < list->n; i++)
        json_array_append_new(array, json_string_nocheck(selector_format(&list->s[i], text)));
    return array;
}

const char *member_state_name(enum member_state state)
{
    switch (state) {
    case MEMBER_DEAD:
        return "dead";
    case MEMBER_JOINING:
        return "joining";
    case MEMBER_READY:
        return "ready";
    case MEMBER_DEGRADED:
        return "degraded";
    case MEMBER_DRAINING:
        return "draining";
    }
    return "unknown";
}

int fingerprint_key(const struct secret *cluster_key, struct secret *out)
{
    static const char info[] = "anysa fingerprint";

    out->n = 32;
    return crypto_hkdf(HASH_SHA256, secret_slice(cluster_key), (struct slice){NULL, 0},
                       (struct slice){(const uint8_t *)info, sizeof info - 1}, out->b, out->n);
}

char *fingerprint_format(const struct secret *key, const struct child_record *sa,
                         char out[FINGERPRINT_TEXT])
{
    struct slice parts[] = {secret_slice(&sa->encr_in), secret_slice(&sa->integ_in),
                            secret_slice(&sa->encr_out), secret_slice(&sa->integ_out)};
    uint8_t mac[HASH_MAX];
    char hex[HEX_TEXT] = "";

    if (crypto_hmac(HASH_SHA256, secret_slice(key), parts, 4, mac) == ERR_OK)
        hex_format(mac, (FINGERPRINT_TEXT - 1) / 2, hex);
    memcpy(out, hex, FINGERPRINT_TEXT - 1);
    out[hex[0] ? FINGERPRINT_TEXT - 1 : 0] = 0;
    wipe(mac, sizeof mac);
    return out;
}
