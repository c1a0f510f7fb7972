/* Recorded negotiations with strongSwan 5.9.8, repeated message by message: the engine gets the
 * same datagrams at the same times, the same random bytes and the same Diffie-Hellman keys, and
 * must want the same things to the last octet. Each wire message is printed above its step.
 *
 * strongSwan computed its half by its own code, so these traces are also the independent check of
 * what no RFC has vectors for: SKEYSEED and prf+ with SHA2, AUTH by PSK, and the SK payload with
 * AES-GCM (RFC 5282 has none) and AES-CBC. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stage.h"
#include "tests/unit/ike/wire.h"

/* What must be in a trace, so that it shows what its name says. */
struct scene {
    char name[32];
    char shows[3][64]; /* parts of lines printed or wanted */
};

static const struct scene scenes[] = {
    {"gcm", {"SK{IDi 64", "V 16", "commit ike installed, child installed"}},
    {"gcm128_sha512", {"AUTH 68", "SK{IDr 8, AUTH 68", "commit ike installed, child installed"}},
    {"cbc", {"KE 196", "SK{IDr 8, AUTH 52", "commit ike installed, child installed"}},
    {"cbc_sha1_esp", {"SK{IDr 8, AUTH 36, SA 40", "AUTH", "commit ike installed, child installed"}},
    {"started_on_4500",
     {"IKE_SA_INIT request", "SK{IDr 8", "commit ike installed, child installed"}},
    {"many_proposals",
     {"SA 132", "SK{IDr 8, AUTH 36, SA 40", "commit ike installed, child installed"}},
    {"no_proposal",
     {"no_proposal_chosen: peer offered aes128-sha1", "tunnel allows aes256gcm16",
      "N(NO_PROPOSAL_CHOSEN)"}},
    {"no_esp_proposal",
     {"peer offered encr_20_192-noesn", "commit ike installed\n",
      "SK{IDr 8, AUTH 36, N(NO_PROPOSAL_CHOSEN)}"}},
    {"invalid_ke", {"KE 68", "N(INVALID_KE_PAYLOAD) 2", "commit ike installed, child installed"}},
    {"cookie",
     {"octets: N(COOKIE) 24\n", "octets: N(COOKIE) 24, SA",
      "commit ike installed, child installed"}},
    {"fragments", {"N(FRAGMENTATION_SUPPORTED)", "SKF", "commit ike installed, child installed"}},
    {"wrong_psk",
     {"failure wrong_psk: id f5407", "IKE_AUTH response 1, 65 octets",
      "SK{N(AUTHENTICATION_FAILED)}"}},
    {"eap_only",
     {"failure unsupported_auth: no AUTH", "IKE_AUTH response 1, 65 octets",
      "SK{N(AUTHENTICATION_FAILED)}"}},
    {"signature",
     {"failure unsupported_auth: method 1", "IKE_AUTH response 1, 65 octets",
      "SK{N(AUTHENTICATION_FAILED)}"}},
    {"childless",
     {"N(CHILDLESS_IKEV2_SUPPORTED)", "SK{IDr 8, AUTH 36}", "CREATE_CHILD_SA response 2"}},
    {"child_rekey", {"SK{N(REKEY_SA), SA 32, Nonce 32, TSi", "SK{D(ESP)}", "child deleted"}},
    {"child_rekey_pfs",
     {"SK{N(REKEY_SA), SA 40, Nonce 32, KE 260", "SK{SA 40, Nonce 32, KE 260", "child deleted"}},
    {"ike_rekey", {"SK{SA 44, Nonce 32, KE 260}", "SK{D(IKE)}", "CREATE_CHILD_SA request 0"}},
    {"ike_rekey_cbc", {"SK{SA 52, Nonce 32, KE 196}", "SK{D(IKE)}", "ike deleted, child deleted"}},
    {"reauth",
     {"commit child installed confirmed, ike deleted, child deleted", "SK{D(IKE)}",
      "IKE_AUTH response"}},
    {"reauth_make_before_break",
     {"commit child installed confirmed, ike deleted, child deleted", "SK{IDi 64, IDr 8",
      "IKE_AUTH response"}},
    {"dpd",
     {"-->  INFORMATIONAL request 2, 57 octets: SK{}", "<--  INFORMATIONAL response 2",
      "commit child installed confirmed"}},
    {"delete_child",
     {"-->  INFORMATIONAL request 2, 69 octets: SK{D(ESP)}",
      "<--  INFORMATIONAL response 2, 69 octets: SK{D(ESP)}", "CREATE_CHILD_SA response 3"}},
    {"delete_ike",
     {"-->  INFORMATIONAL request 2, 65 octets: SK{D(IKE)}", "ike deleted, child deleted",
      "response 2, 57 octets: SK{}"}},
    {"selectors",
     {"TSi 76, TSr 60, N(MOBIKE_SUPPORTED)", "SK{IDr 8, AUTH 36, SA 32, TSi 76, TSr 60}",
      "child installed"}},
    {"narrowed", {"TSi 20, TSr 20, N(MOBIKE_SUPPORTED)", "TSi 20, TSr 36}", "child installed"}},
    {"ts_unacceptable",
     {"failure ts_unacceptable: peer offered TSi 203.0.113.16/28", "N(TS_UNACCEPTABLE)",
      "CREATE_CHILD_SA response 2"}},
    {"our_dpd",
     {"<--  INFORMATIONAL request 0, 57 octets: SK{}", "-->  INFORMATIONAL response 1",
      "<--  INFORMATIONAL request 1"}},
    {"our_child_rekey",
     {"<--  CREATE_CHILD_SA request 0", "-->  CREATE_CHILD_SA response 0",
      "-->  INFORMATIONAL response 1, 69 octets: SK{D(ESP)}"}},
    {"our_child_rekey_pfs",
     {"-->  CREATE_CHILD_SA response 0, 67 octets: SK{N(INVALID_KE",
      "-->  CREATE_CHILD_SA response 1, 385", "child deleted"}},
    {"our_ike_rekey",
     {"<--  CREATE_CHILD_SA request 0, 405 octets: SK{SA",
      "<--  INFORMATIONAL request 1, 65 octets: SK{D(IKE)}", "commit ike deleted"}},
};
enum { SCENES = sizeof scenes / sizeof *scenes, KEYS_MAX = 16, SHOWN_MAX = 64 * 1024 };

/* ---- one repetition ---- */

struct replay {
    struct stage stage;
    struct record *keys[KEYS_MAX]; /* of every IKE SA that came about, for printing */
    size_t n_keys;
    bool print;
    char shown[SHOWN_MAX]; /* all that was printed and wanted */
    size_t wants_seen;     /* of the present event */
    bool open;             /* the engine exists */
    FILE *dump;            /* the messages for another program, see begin_dump */
    unsigned line, events, sends;
};

static void show(struct replay *r, const char *prefix, const char *text)
{
    size_t used = strlen(r->shown);

    snprintf(r->shown + used, sizeof r->shown - used, "%s%s\n", prefix, text);
    if (r->print)
        printf("%s%s\n", prefix, text);
}

/* SAs close and are forgotten; their keys are kept here to read the messages by. */
static void learn_keys(struct replay *r)
{
    for (struct ike_sa *sa = r->stage.engine->by_spi; sa; sa = sa->by_spi.next) {
        bool known = sa->rec->ike.sk_d.n == 0;

        for (size_t i = 0; i < r->n_keys; i++)
            known |= ike_record_spi(&r->keys[i]->ike) == sa->our_spi;
        if (!known && r->n_keys < KEYS_MAX)
            r->keys[r->n_keys++] = record_clone(sa->rec);
    }
}

static const struct ike_record *keys_of(const struct replay *r, struct slice message)
{
    struct message m;

    if (message_parse_header(message, &m) != ERR_OK)
        return NULL;
    for (size_t i = 0; i < r->n_keys; i++)
        if (r->keys[i]->ike.spi_i == m.spi_i && r->keys[i]->ike.spi_r == m.spi_r)
            return &r->keys[i]->ike;
    return NULL;
}

/* With ANYSA_REPLAY_DUMP=DIR: the messages as text2pcap takes them, and in the end the keys as a
 * table of Wireshark's, so that tests/lab/test_ike_traces.sh can have them opened by that one. */
static FILE *begin_dump(const char *name, const char *suffix)
{
    const char *dir = getenv("ANYSA_REPLAY_DUMP");
    char path[512];

    if (!dir)
        return NULL;
    snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
    return fopen(path, "w");
}

static void dump_message(const struct replay *r, struct slice message)
{
    if (!r->dump || !r->print)
        return;
    fprintf(r->dump, "000000");
    for (size_t i = 0; i < message.n; i++)
        fprintf(r->dump, " %02x", message.p[i]);
    fprintf(r->dump, "\n");
}

static void dump_keys(const struct replay *r, const char *name)
{
    FILE *out = begin_dump(name, ".keys");
    char ei[2 * SECRET_MAX + 1], er[sizeof ei], ai[sizeof ei], ar[sizeof ei];

    for (size_t i = 0; out && i < r->n_keys; i++) {
        const struct ike_record *k = &r->keys[i]->ike;

        fprintf(out, "%016" PRIx64 ",%016" PRIx64 ",%s,%s,\"AES-%s-%u %s\",%s,%s,\"%s\"\n",
                k->spi_i, k->spi_r, hex_format(secret_slice(&k->sk_ei), ei),
                hex_format(secret_slice(&k->sk_er), er),
                k->suite.encr == ENCR_AES_CBC ? "CBC" : "GCM", (unsigned)k->suite.encr_bits,
                k->suite.encr == ENCR_AES_CBC ? "[RFC3602]" : "with 16 octet ICV [RFC5282]",
                hex_format(secret_slice(&k->sk_ai), ai), hex_format(secret_slice(&k->sk_ar), ar),
                k->suite.encr == ENCR_AES_CBC ? "HMAC_SHA2_256_128 [RFC4868]" : "NONE [RFC4306]");
    }
    if (out)
        (void)fclose(out);
}

static void show_wire(struct replay *r, const char *arrow, const char *hex)
{
    static uint8_t bytes[IKE_MESSAGE_MAX];
    char line[WIRE_TEXT];
    size_t n;

    cr_assert(hex_parse(hex, bytes, sizeof bytes, &n));
    dump_message(r, (struct slice){bytes, n});
    show(r, arrow, wire_line((struct slice){bytes, n}, keys_of(r, (struct slice){bytes, n}), line));
}

static void check_all_wants_seen(const struct replay *r)
{
    cr_assert_eq(r->wants_seen, r->stage.n_wants, "before line %u: the engine also wants: %s",
                 r->line, r->stage.n_wants ? r->stage.wants[r->wants_seen] : "");
}

/* An action line: the next thing that the engine wanted. */
static void check_want(struct replay *r, const char *want)
{
    static char copy[STAGE_LINE];
    char *rest = copy, *hex = NULL;

    cr_assert_lt(r->wants_seen, r->stage.n_wants, "line %u: nothing more was wanted, but then: %s",
                 r->line, want);
    if (strncmp(want, "send ", 5) == 0) {
        snprintf(copy, sizeof copy, "%s", want);
        for (int i = 0; i < 4; i++)
            hex = strsep(&rest, " ");
        show_wire(r, "<--  ", hex);
        r->sends++;
    } else if (strcmp(want, "job") != 0) {
        show(r, "     ", want);
    }
    cr_assert_str_eq(r->stage.wants[r->wants_seen], want, "line %u", r->line);
    r->wants_seen++;
}

static void run_event(struct replay *r, char *line)
{
    char *word[7] = {0}, *rest = line;
    struct endpoint local, peer;
    uint8_t key[DH_PRIVATE_MAX], made[DH_PRIVATE_MAX];
    static uint8_t bytes[IKE_MESSAGE_MAX];
    struct now now;
    size_t n = 0, made_n;

    for (int i = 0; i < 7 && (word[i] = strsep(&rest, " ")); i++)
        ;
    cr_assert(word[1] && word[2], "line %u", r->line);
    now = (struct now){strtoull(word[1], NULL, 10), strtoll(word[2], NULL, 10)};
    r->events++;
    r->wants_seen = 0;
    if (strcmp(word[0], "tick") == 0) {
        stage_tick(&r->stage, now);
    } else if (strcmp(word[0], "commit") == 0) {
        cr_assert_gt(r->stage.n_commits, 0, "line %u", r->line);
        stage_commit(&r->stage, now);
    } else if (strcmp(word[0], "job") == 0) {
        cr_assert(word[3] && r->stage.n_jobs, "line %u", r->line);
        if (strcmp(word[3], "-") != 0)
            cr_assert(hex_parse(word[3], key, sizeof key, &n), "line %u", r->line);
        stage_job(&r->stage, now, (struct slice){key, n}, made, &made_n);
    } else {
        cr_assert_str_eq(word[0], "in", "line %u", r->line);
        cr_assert(word[5] && endpoint_parse(word[3], &local) && endpoint_parse(word[4], &peer) &&
                      hex_parse(word[5], bytes, sizeof bytes, &n),
                  "line %u", r->line);
        show_wire(r, "-->  ", word[5]);
        stage_in(&r->stage, now, &local, &peer, (struct slice){bytes, n});
    }
    learn_keys(r);
}

static void run_line(struct replay *r, char *line)
{
    char *key = line + 4, *value;

    line[strcspn(line, "\n")] = 0;
    r->line++;
    if (line[0] == '#')
        return;
    if (line[0] == ' ') {
        check_want(r, line + 2);
    } else if (strncmp(line, "set ", 4) == 0) {
        value = strchr(key, ' ');
        cr_assert(value && !r->open, "line %u", r->line);
        *value++ = 0;
        cr_assert(stage_set(&r->stage, key, value), "line %u: set %s", r->line, key);
    } else {
        if (!r->open) {
            r->open = stage_open(&r->stage);
            cr_assert(r->open);
        }
        check_all_wants_seen(r);
        run_event(r, line);
    }
}

static void run_trace(struct replay *r, const char *name)
{
    char path[512];
    char *line = NULL;
    size_t cap = 0;
    FILE *in;

    r->line = r->events = r->sends = 0;
    r->open = false;
    r->wants_seen = 0;
    r->shown[0] = 0;
    snprintf(path, sizeof path, TRACES "/%s.txt", name);
    in = fopen(path, "r");
    cr_assert(in, "no trace %s", path);
    stage_begin(&r->stage);
    while (getline(&line, &cap, in) > 0)
        run_line(r, line);
    check_all_wants_seen(r);
    free(line);
    (void)fclose(in);
    stage_close(&r->stage);
}

/* ---- the tests ---- */

ParameterizedTestParameters(replay, strongswan)
{
    return cr_make_param_array(struct scene, (struct scene *)scenes, SCENES);
}

/* Once to learn the keys, once more to show what is inside the messages. */
ParameterizedTest(struct scene *scene, replay, strongswan)
{
    static struct replay r;

    run_trace(&r, scene->name);
    r.print = true;
    printf("\n%s\n", scene->name);
    r.dump = begin_dump(scene->name, ".hex");
    run_trace(&r, scene->name);
    if (r.dump)
        (void)fclose(r.dump);
    dump_keys(&r, scene->name);
    cr_assert_gt(r.sends, 0);
    for (size_t i = 0; i < 3; i++)
        cr_expect(strstr(r.shown, scene->shows[i]), "%s does not show: %s", scene->name,
                  scene->shows[i]);
    for (size_t i = 0; i < r.n_keys; i++)
        record_free(r.keys[i]);
}

Test(replay, every_trace_is_repeated)
{
    DIR *dir = opendir(TRACES);
    struct dirent *entry;
    size_t found = 0;

    cr_assert(dir);
    while ((entry = readdir(dir))) {
        bool known = false;

        if (entry->d_name[0] == '.')
            continue;
        for (size_t i = 0; i < SCENES; i++)
            known |= strlen(entry->d_name) == strlen(scenes[i].name) + 4 &&
                     strncmp(entry->d_name, scenes[i].name, strlen(scenes[i].name)) == 0;
        cr_expect(known, "no scene for %s", entry->d_name);
        found++;
    }
    (void)closedir(dir);
    cr_assert_eq(found, SCENES);
}
