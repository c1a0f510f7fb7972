#include "wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct name {
    unsigned value;
    const char *text;
};

static const struct name exchanges[] = {{IKE_SA_INIT, "IKE_SA_INIT"},
                                        {IKE_AUTH, "IKE_AUTH"},
                                        {CREATE_CHILD_SA, "CREATE_CHILD_SA"},
                                        {INFORMATIONAL, "INFORMATIONAL"},
                                        {0, NULL}};

static const struct name payloads[] = {
    {PAYLOAD_SA, "SA"},     {PAYLOAD_KE, "KE"},       {PAYLOAD_IDI, "IDi"},
    {PAYLOAD_IDR, "IDr"},   {PAYLOAD_CERT, "CERT"},   {PAYLOAD_CERTREQ, "CERTREQ"},
    {PAYLOAD_AUTH, "AUTH"}, {PAYLOAD_NONCE, "Nonce"}, {PAYLOAD_NOTIFY, "N"},
    {PAYLOAD_DELETE, "D"},  {PAYLOAD_VENDOR, "V"},    {PAYLOAD_TSI, "TSi"},
    {PAYLOAD_TSR, "TSr"},   {PAYLOAD_SK, "SK"},       {PAYLOAD_CP, "CP"},
    {PAYLOAD_EAP, "EAP"},   {PAYLOAD_SKF, "SKF"},     {0, NULL}};

static const struct name notifies[] = {
    {N_UNSUPPORTED_CRITICAL_PAYLOAD, "UNSUPPORTED_CRITICAL_PAYLOAD"},
    {N_INVALID_MAJOR_VERSION, "INVALID_MAJOR_VERSION"},
    {N_INVALID_SYNTAX, "INVALID_SYNTAX"},
    {N_NO_PROPOSAL_CHOSEN, "NO_PROPOSAL_CHOSEN"},
    {N_INVALID_KE_PAYLOAD, "INVALID_KE_PAYLOAD"},
    {N_AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED"},
    {N_NO_ADDITIONAL_SAS, "NO_ADDITIONAL_SAS"},
    {N_TS_UNACCEPTABLE, "TS_UNACCEPTABLE"},
    {N_TEMPORARY_FAILURE, "TEMPORARY_FAILURE"},
    {N_CHILD_SA_NOT_FOUND, "CHILD_SA_NOT_FOUND"},
    {N_INITIAL_CONTACT, "INITIAL_CONTACT"},
    {N_NAT_DETECTION_SOURCE_IP, "NAT_DETECTION_SOURCE_IP"},
    {N_NAT_DETECTION_DESTINATION_IP, "NAT_DETECTION_DESTINATION_IP"},
    {N_COOKIE, "COOKIE"},
    {N_REKEY_SA, "REKEY_SA"},
    {N_ESP_TFC_PADDING_NOT_SUPPORTED, "ESP_TFC_PADDING_NOT_SUPPORTED"},
    {16396, "MOBIKE_SUPPORTED"},
    {16397, "ADDITIONAL_IP4_ADDRESS"},
    {16398, "ADDITIONAL_IP6_ADDRESS"},
    {16399, "NO_ADDITIONAL_ADDRESSES"},
    {16404, "MULTIPLE_AUTH_SUPPORTED"},
    {16406, "REDIRECT_SUPPORTED"},
    {16417, "EAP_ONLY_AUTHENTICATION"},
    {N_CHILDLESS_IKEV2_SUPPORTED, "CHILDLESS_IKEV2_SUPPORTED"},
    {16420, "IKEV2_MESSAGE_ID_SYNC_SUPPORTED"},
    {N_FRAGMENTATION_SUPPORTED, "FRAGMENTATION_SUPPORTED"},
    {16431, "SIGNATURE_HASH_ALGORITHMS"},
    {0, NULL}};

static const char *name_of(const struct name *list, unsigned value)
{
    for (; list->text; list++)
        if (list->value == value)
            return list->text;
    return NULL;
}

__attribute__((format(printf, 2, 3))) static void add(char out[WIRE_TEXT], const char *format, ...)
{
    size_t used = strlen(out);
    va_list args;

    va_start(args, format);
    vsnprintf(out + used, WIRE_TEXT - used, format, args);
    va_end(args);
}

static void add_payload(const struct payload *p, char out[WIRE_TEXT])
{
    const char *name = name_of(payloads, p->type), *notify = NULL;
    struct notify n;

    if (p->type == PAYLOAD_NOTIFY && notify_parse(p->body, &n)) {
        notify = name_of(notifies, n.type);
        if (notify)
            add(out, "N(%s)", notify);
        else
            add(out, "N(%u)", (unsigned)n.type);
        if (n.data.n)
            add(out, " %zu", n.data.n);
    } else if (p->type == PAYLOAD_DELETE && p->body.n) {
        add(out, "D(%s)", p->body.p[0] == PROTOCOL_IKE ? "IKE" : "ESP");
    } else {
        add(out, "%s %zu", name ? name : "?", p->body.n);
    }
}

static void add_chain(const struct message *m, char out[WIRE_TEXT])
{
    for (size_t i = 0; i < m->n; i++) {
        add(out, "%s", i ? ", " : "");
        add_payload(&m->payloads[i], out);
    }
}

/* What is inside SK; false: the keys do not fit. */
static bool add_inner(const struct message *m, const struct ike_record *keys, char out[WIRE_TEXT])
{
    struct message inner = {.raw = m->raw};
    uint8_t plain[IKE_MESSAGE_MAX];
    size_t n;

    if (!keys || sk_open(keys, m, m->flags & IKE_FLAG_INITIATOR, plain, &n) != ERR_OK)
        return false;
    add(out, "SK{");
    if (message_parse_chain(&inner, m->payloads[m->n - 1].next, (struct slice){plain, n}) != ERR_OK)
        add(out, "malformed or unknown and critical ");
    add_chain(&inner, out);
    add(out, "}");
    return true;
}

char *wire_line(struct slice message, const struct ike_record *keys, char out[WIRE_TEXT])
{
    struct message m;
    const char *exchange;
    int rc;

    out[0] = 0;
    if (message_parse_header(message, &m) != ERR_OK) {
        add(out, "%zu octets that are no IKE message", message.n);
        return out;
    }
    exchange = name_of(exchanges, m.exchange);
    add(out, "%s %s %u, %zu octets: ", exchange ? exchange : "unknown exchange",
        m.flags & IKE_FLAG_RESPONSE ? "response" : "request", (unsigned)m.id, message.n);
    rc = message_parse_chain(
        &m, m.first, (struct slice){message.p + IKE_HEADER_BYTES, message.n - IKE_HEADER_BYTES});
    if (m.n && m.payloads[m.n - 1].type == PAYLOAD_SK && add_inner(&m, keys, out))
        return out;
    add_chain(&m, out);
    if (rc != ERR_OK)
        add(out, " (malformed, or unknown and critical)");
    return out;
}
