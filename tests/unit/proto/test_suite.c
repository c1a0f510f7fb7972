#include <criterion/criterion.h>
#include <string.h>

#include "proto/suite.h"

#define EACH_ROW(t)                                                                                \
    for (const struct transform *t = transform_table; t < transform_table + transform_count; t++)

Test(suite, each_row_is_found_and_is_the_only_one)
{
    EACH_ROW(a)
    {
        cr_expect(transform_find(a->type, a->id, a->key_bits) == a, "%s", a->name);
        EACH_ROW(b)
        cr_expect(a == b || a->type != b->type || strcmp(a->name, b->name) != 0, "%s", a->name);
    }
}

Test(suite, names_are_unique_over_all_types)
{
    EACH_ROW(a)
    EACH_ROW(b)
    cr_expect(a == b || strcmp(a->name, b->name) != 0, "%s", a->name);
}

Test(suite, each_row_is_complete)
{
    EACH_ROW(t)
    {
        cr_expect(t->in_ike || t->in_child, "%s serves nothing", t->name);
        cr_expect(t->name && *t->name);
        cr_expect(t->key_bits == 0 || t->key_bits == 8 * t->key_bytes, "%s", t->name);
        switch (t->type) {
        case TRANSFORM_ENCR:
            cr_expect(t->block_bytes > 0, "%s", t->name);
            cr_expect(t->aead == (t->icv_bytes > 0), "%s: only an AEAD brings its ICV", t->name);
            cr_expect(t->needs_opt_in == (t->key_bytes == 0), "%s", t->name);
            cr_expect(!t->hash, "%s", t->name);
            break;
        case TRANSFORM_PRF:
            cr_expect(t->in_ike && !t->in_child, "%s", t->name);
            cr_expect(t->key_bytes == hash_len(t->hash) && t->key_bytes, "%s", t->name);
            break;
        case TRANSFORM_INTEG:
            cr_expect(t->key_bytes == hash_len(t->hash) && t->key_bytes, "%s", t->name);
            cr_expect(t->icv_bytes && t->icv_bytes < hash_len(t->hash), "%s", t->name);
            break;
        case TRANSFORM_DH:
            cr_expect(dh_public_len(t->id) > 0, "%s", t->name);
            break;
        default:
            cr_expect(false, "%s has no type", t->name);
        }
    }
}

/* Keys of every row fit a struct secret, whose size proto/secret.h sets. */
Test(suite, keys_fit_a_secret)
{
    EACH_ROW(t)
    cr_expect(t->key_bytes + t->salt_bytes <= 64, "%s", t->name);
}

/* The reference's lists, as they are told to customers. */
Test(suite, exactly_the_transforms_of_the_reference)
{
    static const char *const ike[] = {"aes256gcm16", "aes128gcm16", "aes256",
                                      "sha256",      "prfsha256",   "prfsha384",
                                      "prfsha512",   "modp2048",    "modp1536"};
    static const char *const child[] = {"aes256gcm16", "aes128gcm16", "aes256",   "aes128",  "null",
                                        "sha256",      "sha1",        "modp2048", "modp1536"};
    size_t in_ike = 0, in_child = 0;

    EACH_ROW(t)
    {
        bool found[2] = {false, false};

        for (size_t i = 0; i < sizeof ike / sizeof *ike; i++)
            found[0] |= strcmp(ike[i], t->name) == 0;
        for (size_t i = 0; i < sizeof child / sizeof *child; i++)
            found[1] |= strcmp(child[i], t->name) == 0;
        cr_expect(found[0] == t->in_ike && found[1] == t->in_child, "%s", t->name);
        in_ike += t->in_ike;
        in_child += t->in_child;
    }
    cr_expect(in_ike == sizeof ike / sizeof *ike && in_child == sizeof child / sizeof *child);
}

Test(suite, absent_and_wrong_key_lengths_are_not_found)
{
    cr_expect_null(transform_find(TRANSFORM_ENCR, ENCR_AES_GCM_16, 0));
    cr_expect_null(transform_find(TRANSFORM_ENCR, ENCR_AES_GCM_16, 192));
    cr_expect_null(transform_find(TRANSFORM_ENCR, ENCR_NULL, 128));
    cr_expect_null(transform_find(TRANSFORM_PRF, PRF_HMAC_SHA2_256, 256));
    cr_expect_null(transform_find(TRANSFORM_INTEG, INTEG_NONE, 0));
    cr_expect_null(transform_find(TRANSFORM_DH, 2, 0));
    cr_expect_null(transform_find(TRANSFORM_ESN, ESN_NO, 0));
    cr_expect_null(transform_find(0, 0, 0));
}

static void formats_as(struct suite s, const char *want)
{
    char text[SUITE_TEXT];

    cr_expect_str_eq(suite_format(&s, text), want);
}

Test(suite, formatting)
{
    formats_as((struct suite){.encr = ENCR_AES_GCM_16,
                              .encr_bits = 256,
                              .prf = PRF_HMAC_SHA2_256,
                              .dh = DH_MODP_2048},
               "aes256gcm16-prfsha256-modp2048");
    formats_as(
        (struct suite){.encr = ENCR_AES_CBC, .encr_bits = 128, .integ = INTEG_HMAC_SHA2_256_128},
        "aes128-sha256");
    formats_as((struct suite){.encr = ENCR_AES_CBC,
                              .encr_bits = 256,
                              .integ = INTEG_HMAC_SHA2_256_128,
                              .prf = PRF_HMAC_SHA2_512,
                              .dh = DH_MODP_1536},
               "aes256-sha256-prfsha512-modp1536");
    formats_as((struct suite){.encr = ENCR_NULL, .integ = INTEG_HMAC_SHA1_96}, "null-sha1");
    formats_as((struct suite){0}, "");
}

/* A record of a newer version may name what we do not know. */
Test(suite, unknown_transforms_show_their_numbers)
{
    formats_as((struct suite){.encr = 28, .encr_bits = 256, .prf = 9, .dh = 31},
               "encr(28/256)-prf(9)-dh(31)");
    formats_as((struct suite){65535, 65535, 65535, 65535, 65535},
               "encr(65535/65535)-integ(65535)-prf(65535)-dh(65535)");
}
