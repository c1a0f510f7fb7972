/* SA and TS payload bodies straight into their parsers. */
#include <stdlib.h>
#include <string.h>

#include "ike/proposal.h"
#include "ike/ts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct choice_rules rules = {.protocol = PROTOCOL_IKE};
    struct selector_list a, b;
    struct choice choice;
    struct slice body;
    char text[256];
    uint8_t *copy;

    if (n < 1 || n > 8192)
        return 0;
    copy = malloc(n);
    memcpy(copy, data, n);
    body = (struct slice){copy + 1, n - 1};
    rules.protocol = data[0] & 1 ? PROTOCOL_ESP : PROTOCOL_IKE;
    rules.allow_null = data[0] & 2;
    rules.ke_group = data[0] & 4 ? DH_MODP_1536 : DH_MODP_2048;
    rules.ignore_dh = data[0] & 8;
    rules.ike_rekey = data[0] & 16;
    if (proposal_choose(body, &rules, &choice) == 0) {
        uint8_t out[256];
        struct choice again;
        struct chain c;

        /* What we answer must itself be acceptable. */
        chain_begin(&c, out, sizeof out);
        proposal_write(&c, &choice, rules.protocol, 0x12345678,
                       rules.protocol == PROTOCOL_ESP ? 4
                       : rules.ike_rekey              ? 8
                                                      : 0);
        if (c.w.bad || proposal_choose((struct slice){out + 4, c.w.n - 4}, &rules, &again) != 0)
            abort();
    }
    proposal_describe(body, text, sizeof text);
    if (ts_parse(body, &a) == 0 && ts_narrow(&a, &a, &b))
        ts_describe(&b, text, sizeof text);
    free(copy);
    return 0;
}
