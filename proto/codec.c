/* How a mesh message becomes bytes and is believed again.
 *
 * Out: the message's C form is mirrored by protobuf-c structures that point into it
 * (nothing is copied), and packed straight into the caller's buffer behind one byte that
 * tells its kind.
 *
 * In: the bytes come out of a sealed frame, so a member wrote them; that member may still
 * be newer, broken or taken over. Three gates follow one another. The size is capped, then
 * protobuf-c unpacks into an arena with a budget, so a message that is cheap to send and
 * dear to hold ends there; then each field is copied into our own structures under its
 * range check (records: codec_record.c). The arena is wiped whole in any case: it held
 * keys. Nothing that a peer can say reaches an assertion. */
#include "proto/codec_pb.h"

#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/wire_ip.h"

enum {
    DECODE_BUDGET_BYTES = 4 * 1024 * 1024,
    ENCODE_BUDGET_BYTES = 16 * 1024 * 1024,
};

/* Plain memory for arrays that hold no keys; one element at least, so NULL means failure. */
static void *new_array(size_t n, size_t size)
{
    return calloc(n ? n : 1, size);
}

/* ---- positions ---- */

static Pb__Position **positions_to_pb(struct arena *a, const struct log_position *p, size_t n)
{
    Pb__Position **out = arena_alloc(a, n * sizeof(Pb__Position *));

    for (size_t i = 0; out && i < n; i++) {
        Pb__Position *pb = arena_alloc(a, sizeof *pb);
        if (!pb)
            return NULL;
        pb__position__init(pb);
        pb->origin = pb_bytes(p[i].origin.b, ID_BYTES);
        pb->slot = p[i].slot;
        pb->seq = p[i].seq;
        out[i] = pb;
    }
    return out;
}

static int positions_from_pb(Pb__Position *const *pb, size_t n, struct log_position **out,
                             size_t *n_out)
{
    struct log_position *p;

    if (n > CODEC_POSITIONS_MAX)
        return ERR_FULL;
    p = new_array(n, sizeof *p);
    if (!p)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        if (pb[i]->slot > SLOT_MAX || !id_from_pb(pb[i]->origin, &p[i].origin)) {
            free(p);
            return ERR_INVALID;
        }
        p[i].slot = (uint16_t)pb[i]->slot;
        p[i].seq = pb[i]->seq;
    }
    *out = p;
    *n_out = n;
    return ERR_OK;
}

/* ---- records in a row ---- */

static Pb__Record **records_to_pb(struct arena *a, struct record *const *records, size_t n,
                                  bool with_position)
{
    Pb__Record **out = arena_alloc(a, n * sizeof(Pb__Record *));

    for (size_t i = 0; out && i < n; i++)
        if (!(out[i] = record_to_pb(a, records[i], with_position)))
            return NULL;
    return out;
}

static void free_records(struct record **records, size_t n)
{
    for (size_t i = 0; records && i < n; i++)
        record_free(records[i]);
    free(records);
}

/* ---- update ---- */

static ProtobufCMessage *update_to_pb(struct arena *a, const struct codec_update *m)
{
    Pb__Update *pb = arena_alloc(a, sizeof *pb);
    size_t at = 0;

    if (!pb)
        return NULL;
    pb__update__init(pb);
    pb->origin = pb_bytes(m->origin.b, ID_BYTES);
    pb->first_seq = m->first_seq;
    pb->n_groups = m->n_groups;
    pb->groups = arena_alloc(a, m->n_groups * sizeof(Pb__Group *));
    for (size_t i = 0; pb->groups && i < m->n_groups; i++) {
        Pb__Group *g = pb->groups[i] = arena_alloc(a, sizeof *g);
        if (!g || at + m->group_sizes[i] > m->n_records)
            return NULL;
        pb__group__init(g);
        g->n_records = m->group_sizes[i];
        g->records = records_to_pb(a, m->records + at, g->n_records, false);
        if (!g->records)
            return NULL;
        at += g->n_records;
    }
    return pb->groups && at == m->n_records ? &pb->base : NULL;
}

static int update_from_pb(const Pb__Update *pb, struct codec_update *m)
{
    size_t total = 0;

    for (size_t i = 0; i < pb->n_groups; i++) {
        if (pb->groups[i]->n_records == 0 || pb->groups[i]->n_records > CODEC_GROUP_MAX)
            return ERR_INVALID;
        total += pb->groups[i]->n_records;
    }
    if (total == 0 || pb->first_seq == 0 || pb->first_seq > UINT64_MAX - total ||
        !id_from_pb(pb->origin, &m->origin))
        return ERR_INVALID;
    m->first_seq = pb->first_seq;
    m->records = new_array(total, sizeof(struct record *));
    m->group_sizes = new_array(pb->n_groups, sizeof *m->group_sizes);
    if (!m->records || !m->group_sizes)
        return ERR_NOMEM;
    for (size_t i = 0; i < pb->n_groups; i++) {
        const Pb__Group *g = pb->groups[i];
        m->group_sizes[m->n_groups++] = (uint32_t)g->n_records;
        for (size_t k = 0; k < g->n_records; k++) {
            struct record **r = &m->records[m->n_records];
            int rc = record_from_pb(g->records[k], false, r);
            if (rc != ERR_OK && rc != ERR_UNSUPPORTED)
                return rc;
            if (*r) {
                (*r)->origin = m->origin;
                (*r)->seq = m->first_seq + m->n_records;
            }
            m->n_records++;
        }
    }
    return ERR_OK;
}

/* ---- announce ---- */

static bool text_from_pb(const char *s, char out[CODEC_TEXT_MAX])
{
    size_t n = strnlen(s, CODEC_TEXT_MAX);

    if (n >= CODEC_TEXT_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (s[i] < 0x20 || s[i] > 0x7e)
            return false;
    memcpy(out, s, n + 1);
    return true;
}

static Pb__Heard **heard_to_pb(struct arena *a, const struct codec_heard *h, size_t n)
{
    Pb__Heard **out = arena_alloc(a, n * sizeof(Pb__Heard *));

    for (size_t i = 0; out && i < n; i++) {
        Pb__Heard *pb = arena_alloc(a, sizeof *pb);
        if (!pb)
            return NULL;
        pb__heard__init(pb);
        pb->slot = h[i].slot;
        pb->incarnation = pb_bytes(h[i].incarnation.b, ID_BYTES);
        pb->age_ms = h[i].age_ms;
        pb->believed = h[i].believed;
        pb->number = h[i].number;
        pb->epoch = h[i].epoch;
        pb->rival = h[i].rival;
        out[i] = pb;
    }
    return out;
}

static Pb__SlotEpoch **epochs_to_pb(struct arena *a, const struct codec_epoch *e, size_t n)
{
    Pb__SlotEpoch **out = arena_alloc(a, n * sizeof(Pb__SlotEpoch *));

    for (size_t i = 0; out && i < n; i++) {
        Pb__SlotEpoch *pb = arena_alloc(a, sizeof *pb);
        if (!pb)
            return NULL;
        pb__slot_epoch__init(pb);
        pb->slot = e[i].slot;
        pb->epoch = e[i].epoch;
        out[i] = pb;
    }
    return out;
}

static uint32_t *slots_to_pb(struct arena *a, const uint16_t *slots, size_t n)
{
    uint32_t *out = arena_alloc(a, n * sizeof *out);

    for (size_t i = 0; out && i < n; i++)
        out[i] = slots[i];
    return out;
}

static Pb__KeyHeld **keys_to_pb(struct arena *a, const struct codec_key *keys, size_t n)
{
    Pb__KeyHeld **out = arena_alloc(a, n * sizeof *out);

    for (size_t i = 0; out && i < n; i++) {
        Pb__KeyHeld *pb = arena_alloc(a, sizeof *pb);
        if (!pb)
            return NULL;
        pb__key_held__init(pb);
        pb->id = keys[i].id;
        pb->check = keys[i].check;
        out[i] = pb;
    }
    return out;
}

static ProtobufCMessage *announce_to_pb(struct arena *a, const struct codec_announce *m)
{
    Pb__Announce *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__announce__init(pb);
    pb->state = m->state;
    pb->head = m->head;
    pb->n_applied = m->n_applied;
    pb->applied = positions_to_pb(a, m->applied, m->n_applied);
    pb->n_heard = m->n_heard;
    pb->heard = heard_to_pb(a, m->heard, m->n_heard);
    pb->epoch = m->epoch;
    pb->n_epochs = m->n_epochs;
    pb->epochs = epochs_to_pb(a, m->epochs, m->n_epochs);
    pb->name = (char *)(uintptr_t)m->name;
    pb->version = (char *)(uintptr_t)m->version;
    pb->ike_sas = m->ike_sas;
    pb->child_sas = m->child_sas;
    pb->sa_digest = pb_bytes(m->sa_digest, sizeof m->sa_digest);
    pb->tells_epochs = m->tells_epochs;
    pb->sure = m->sure;
    pb->n_sure_of = m->n_sure_of;
    pb->sure_of = slots_to_pb(a, m->sure_of, m->n_sure_of);
    pb->n_keys = m->n_keys;
    pb->keys = keys_to_pb(a, m->keys, m->n_keys);
    pb->members = m->members;
    pb->wall_ms = (uint64_t)m->wall_ms;
    return pb->applied && pb->heard && pb->epochs && pb->sure_of && pb->keys ? &pb->base : NULL;
}

static int heard_from_pb(const Pb__Announce *pb, struct codec_announce *m)
{
    if (pb->n_heard > CODEC_HEARD_MAX)
        return ERR_FULL;
    m->heard = new_array(pb->n_heard, sizeof *m->heard);
    if (!m->heard)
        return ERR_NOMEM;
    for (size_t i = 0; i < pb->n_heard; i++) {
        struct codec_heard *h = &m->heard[i];
        if (pb->heard[i]->slot > SLOT_MAX || pb->heard[i]->epoch > EPOCH_MAX ||
            !id_from_pb(pb->heard[i]->incarnation, &h->incarnation))
            return ERR_INVALID;
        h->slot = (uint16_t)pb->heard[i]->slot;
        h->age_ms = pb->heard[i]->age_ms;
        h->believed = pb->heard[i]->believed;
        h->number = pb->heard[i]->number;
        h->epoch = pb->heard[i]->epoch;
        h->rival = pb->heard[i]->rival;
    }
    m->n_heard = pb->n_heard;
    return ERR_OK;
}

static int epochs_from_pb(const Pb__Announce *pb, struct codec_announce *m)
{
    if (pb->n_epochs > SLOT_MAX + 1)
        return ERR_FULL;
    m->epochs = new_array(pb->n_epochs, sizeof *m->epochs);
    if (!m->epochs)
        return ERR_NOMEM;
    for (size_t i = 0; i < pb->n_epochs; i++) {
        if (pb->epochs[i]->slot > SLOT_MAX || pb->epochs[i]->epoch > EPOCH_MAX)
            return ERR_INVALID;
        m->epochs[i] = (struct codec_epoch){(uint16_t)pb->epochs[i]->slot, pb->epochs[i]->epoch};
    }
    m->n_epochs = pb->n_epochs;
    return ERR_OK;
}

static int sure_of_from_pb(const Pb__Announce *pb, struct codec_announce *m)
{
    if (pb->n_sure_of > SLOT_MAX + 1)
        return ERR_FULL;
    m->sure_of = new_array(pb->n_sure_of, sizeof *m->sure_of);
    if (!m->sure_of)
        return ERR_NOMEM;
    for (size_t i = 0; i < pb->n_sure_of; i++) {
        if (pb->sure_of[i] > SLOT_MAX)
            return ERR_INVALID;
        m->sure_of[i] = (uint16_t)pb->sure_of[i];
    }
    m->n_sure_of = pb->n_sure_of;
    return ERR_OK;
}

/* Of more than there is room for, a newer version's, the first ones. */
static void keys_from_pb(const Pb__Announce *pb, struct codec_announce *m)
{
    m->n_keys = pb->n_keys < CODEC_KEYS_MAX ? pb->n_keys : CODEC_KEYS_MAX;
    for (size_t i = 0; i < m->n_keys; i++)
        m->keys[i] = (struct codec_key){pb->keys[i]->id, pb->keys[i]->check};
}

static int announce_from_pb(const Pb__Announce *pb, struct codec_announce *m)
{
    int rc;

    if (pb->epoch > EPOCH_MAX || pb->sa_digest.len != sizeof m->sa_digest ||
        pb->wall_ms > (uint64_t)CODEC_WALL_MS_MAX || !text_from_pb(pb->name, m->name) ||
        !text_from_pb(pb->version, m->version))
        return ERR_INVALID;
    m->state = pb->state > CODEC_STATE_MAX ? CODEC_STATE_NEWER : (uint8_t)pb->state;
    m->head = pb->head;
    m->epoch = pb->epoch;
    m->ike_sas = pb->ike_sas;
    m->child_sas = pb->child_sas;
    memcpy(m->sa_digest, pb->sa_digest.data, sizeof m->sa_digest);
    rc = positions_from_pb(pb->applied, pb->n_applied, &m->applied, &m->n_applied);
    if (rc == ERR_OK)
        rc = heard_from_pb(pb, m);
    if (rc == ERR_OK)
        rc = epochs_from_pb(pb, m);
    if (rc == ERR_OK)
        rc = sure_of_from_pb(pb, m);
    m->tells_epochs = pb->tells_epochs;
    m->sure = pb->sure;
    m->members = pb->members;
    m->wall_ms = (int64_t)pb->wall_ms;
    keys_from_pb(pb, m);
    return rc;
}

/* ---- forward ---- */

static ProtobufCMessage *forward_to_pb(struct arena *a, const struct codec_forward *m)
{
    Pb__Forward *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__forward__init(pb);
    pb->datagram = pb_bytes(m->datagram, m->n_datagram);
    pb->local = endpoint_to_pb(a, &m->local);
    pb->peer = endpoint_to_pb(a, &m->peer);
    return pb->local && pb->peer ? &pb->base : NULL;
}

static int forward_from_pb(const Pb__Forward *pb, struct codec_forward *m)
{
    if (pb->datagram.len == 0 || pb->datagram.len > CODEC_DATAGRAM_MAX ||
        !endpoint_from_pb(pb->local, &m->local) || !endpoint_from_pb(pb->peer, &m->peer) ||
        m->local.ip.family == 0 || m->local.ip.family != m->peer.ip.family)
        return ERR_INVALID;
    m->datagram = new_array(pb->datagram.len, 1);
    if (!m->datagram)
        return ERR_NOMEM;
    memcpy(m->datagram, pb->datagram.data, pb->datagram.len);
    m->n_datagram = pb->datagram.len;
    return ERR_OK;
}

/* ---- moved ---- */

static ProtobufCMessage *moved_to_pb(struct arena *a, const struct codec_moved *m)
{
    Pb__Moved *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__moved__init(pb);
    pb->spi_in = m->spi_in;
    pb->peer = endpoint_to_pb(a, &m->peer);
    return pb->peer ? &pb->base : NULL;
}

static int moved_from_pb(const Pb__Moved *pb, struct codec_moved *m)
{
    if (!endpoint_from_pb(pb->peer, &m->peer) || m->peer.ip.family == 0 || m->peer.port == 0 ||
        pb->spi_in < ESP_SPI_MIN)
        return ERR_INVALID;
    m->spi_in = pb->spi_in;
    return ERR_OK;
}

/* ---- activity ---- */

static ProtobufCMessage *activity_to_pb(struct arena *a, const struct codec_activity *m)
{
    Pb__Activity *pb = arena_alloc(a, sizeof *pb);

    if (!pb || m->n > CODEC_ACTIVITY_MAX)
        return NULL;
    pb__activity__init(pb);
    pb->round = m->round;
    pb->answer = m->answer;
    pb->n_spi_in = m->n;
    pb->spi_in = m->spi_in;
    if (m->answer) {
        pb->n_age_ms = m->n;
        pb->age_ms = m->age_ms;
    }
    return &pb->base;
}

static int activity_from_pb(const Pb__Activity *pb, struct codec_activity *m)
{
    if (pb->n_spi_in > CODEC_ACTIVITY_MAX || pb->n_age_ms != (pb->answer ? pb->n_spi_in : 0) ||
        (pb->n_spi_in == 0 && !pb->answer))
        return ERR_INVALID;
    m->round = pb->round;
    m->answer = pb->answer;
    m->n = pb->n_spi_in;
    m->spi_in = new_array(m->n, sizeof *m->spi_in);
    m->age_ms = m->answer ? new_array(m->n, sizeof *m->age_ms) : NULL;
    if (!m->spi_in || (m->answer && !m->age_ms))
        return ERR_NOMEM;
    for (size_t i = 0; i < m->n; i++) {
        m->spi_in[i] = pb->spi_in[i];
        if (m->answer)
            m->age_ms[i] = pb->age_ms[i];
    }
    return ERR_OK;
}

/* ---- epoch grants ---- */

static ProtobufCMessage *claim_to_pb(struct arena *a, const struct codec_claim *m)
{
    Pb__Claim *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__claim__init(pb);
    pb->epoch = m->epoch;
    pb->round = m->round;
    pb->members = m->members;
    return &pb->base;
}

static int claim_from_pb(const Pb__Claim *pb, struct codec_claim *m)
{
    if (pb->epoch == 0 || pb->epoch > EPOCH_MAX)
        return ERR_INVALID;
    *m = (struct codec_claim){pb->epoch, pb->round, pb->members};
    return ERR_OK;
}

static Pb__Ballot *ballot_to_pb(struct arena *a, const struct codec_ballot *b)
{
    Pb__Ballot *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__ballot__init(pb);
    pb->claimant = pb_bytes(b->claimant.b, ID_BYTES);
    pb->epoch = b->epoch;
    pb->round = b->round;
    pb->verdict = b->verdict;
    pb->seen = b->seen;
    return pb;
}

static ProtobufCMessage *vote_to_pb(struct arena *a, const struct codec_vote *m)
{
    Pb__Vote *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__vote__init(pb);
    pb->n_ballots = m->n_ballots;
    pb->ballots = arena_alloc(a, m->n_ballots * sizeof(Pb__Ballot *));
    pb->n_witnesses = m->n_witnesses;
    pb->witnesses = arena_alloc(a, m->n_witnesses * sizeof(Pb__Witness *));
    if (!pb->ballots || !pb->witnesses)
        return NULL;
    for (size_t i = 0; i < m->n_ballots; i++) {
        pb->ballots[i] = ballot_to_pb(a, &m->ballots[i]);
        if (!pb->ballots[i])
            return NULL;
    }
    for (size_t i = 0; i < m->n_witnesses; i++) {
        pb->witnesses[i] = arena_alloc(a, sizeof(Pb__Witness));
        if (!pb->witnesses[i])
            return NULL;
        pb__witness__init(pb->witnesses[i]);
        pb->witnesses[i]->slot = m->witnesses[i].slot;
        pb->witnesses[i]->incarnation = pb_bytes(m->witnesses[i].incarnation.b, ID_BYTES);
    }
    return &pb->base;
}

static bool ballot_from_pb(const Pb__Ballot *pb, struct codec_ballot *b)
{
    if (!id_from_pb(pb->claimant, &b->claimant) || pb->epoch == 0 || pb->epoch > EPOCH_MAX ||
        pb->verdict == 0 || pb->verdict > CODEC_VERDICT_MAX || pb->seen > EPOCH_MAX)
        return false;
    b->epoch = pb->epoch;
    b->round = pb->round;
    b->seen = pb->seen;
    b->verdict = (uint8_t)pb->verdict;
    return true;
}

static int vote_from_pb(const Pb__Vote *pb, struct codec_vote *m)
{
    if (pb->n_ballots == 0 || pb->n_ballots > SLOT_MAX + 1 || pb->n_witnesses > SLOT_MAX + 1)
        return ERR_INVALID;
    m->ballots = new_array(pb->n_ballots, sizeof *m->ballots);
    m->witnesses = new_array(pb->n_witnesses, sizeof *m->witnesses);
    if (!m->ballots || !m->witnesses)
        return ERR_NOMEM;
    for (size_t i = 0; i < pb->n_ballots; i++)
        if (!ballot_from_pb(pb->ballots[i], &m->ballots[i]))
            return ERR_INVALID;
    m->n_ballots = pb->n_ballots;
    for (size_t i = 0; i < pb->n_witnesses; i++) {
        if (pb->witnesses[i]->slot > SLOT_MAX ||
            !id_from_pb(pb->witnesses[i]->incarnation, &m->witnesses[i].incarnation))
            return ERR_INVALID;
        m->witnesses[i].slot = (uint16_t)pb->witnesses[i]->slot;
    }
    m->n_witnesses = pb->n_witnesses;
    return ERR_OK;
}

/* ---- pull ---- */

static ProtobufCMessage *pull_request_to_pb(struct arena *a, const struct codec_pull_request *m)
{
    Pb__PullRequest *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__pull_request__init(pb);
    pb->to_incarnation = pb_bytes(m->to_incarnation.b, ID_BYTES);
    pb->nonce = m->nonce;
    pb->snapshot = m->snapshot;
    pb->cursor = m->cursor;
    pb->heard = m->heard;
    pb->n_vector = m->n_vector;
    pb->vector = positions_to_pb(a, m->vector, m->n_vector);
    return pb->vector ? &pb->base : NULL;
}

static int pull_request_from_pb(const Pb__PullRequest *pb, struct codec_pull_request *m)
{
    if (!id_from_pb(pb->to_incarnation, &m->to_incarnation))
        return ERR_INVALID;
    m->nonce = pb->nonce;
    m->snapshot = pb->snapshot;
    m->cursor = pb->cursor;
    m->heard = pb->heard;
    return positions_from_pb(pb->vector, pb->n_vector, &m->vector, &m->n_vector);
}

static ProtobufCMessage *pull_reply_to_pb(struct arena *a, const struct codec_pull_reply *m)
{
    Pb__PullReply *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__pull_reply__init(pb);
    pb->snapshot = m->snapshot;
    pb->n_records = m->n_records;
    pb->records = records_to_pb(a, m->records, m->n_records, true);
    pb->next_cursor = m->next_cursor;
    pb->more = m->more;
    pb->expired = m->expired;
    pb->n_vector = m->n_vector;
    pb->vector = positions_to_pb(a, m->vector, m->n_vector);
    return pb->records && pb->vector ? &pb->base : NULL;
}

static int pull_reply_from_pb(const Pb__PullReply *pb, struct codec_pull_reply *m)
{
    m->snapshot = pb->snapshot;
    m->next_cursor = pb->next_cursor;
    m->more = pb->more;
    m->expired = pb->expired;
    m->records = new_array(pb->n_records, sizeof(struct record *));
    if (!m->records)
        return ERR_NOMEM;
    for (size_t i = 0; i < pb->n_records; i++) {
        int rc = record_from_pb(pb->records[i], true, &m->records[i]);
        if (rc != ERR_OK && rc != ERR_UNSUPPORTED)
            return rc;
        m->n_records++;
    }
    return positions_from_pb(pb->vector, pb->n_vector, &m->vector, &m->n_vector);
}

/* ---- any message ---- */

static ProtobufCMessage *message_to_pb(struct arena *a, const struct codec_message *m)
{
    switch (m->kind) {
    case CODEC_UPDATE:
        return update_to_pb(a, &m->update);
    case CODEC_ANNOUNCE:
        return announce_to_pb(a, &m->announce);
    case CODEC_FORWARD:
        return forward_to_pb(a, &m->forward);
    case CODEC_MOVED:
        return moved_to_pb(a, &m->moved);
    case CODEC_ACTIVITY:
        return activity_to_pb(a, &m->activity);
    case CODEC_CLAIM:
        return claim_to_pb(a, &m->claim);
    case CODEC_VOTE:
        return vote_to_pb(a, &m->vote);
    case CODEC_PULL_REQUEST:
        return pull_request_to_pb(a, &m->pull_request);
    case CODEC_PULL_REPLY:
        return pull_reply_to_pb(a, &m->pull_reply);
    }
    return NULL;
}

int codec_encode(const struct codec_message *m, uint8_t *out, size_t cap, size_t *n)
{
    struct arena a = arena_of(ENCODE_BUDGET_BYTES);
    ProtobufCMessage *pb = message_to_pb(&a, m);
    int rc = ERR_OK;

    *n = 0;
    if (cap > CODEC_MESSAGE_MAX)
        cap = CODEC_MESSAGE_MAX;
    if (!pb)
        rc = ERR_NOMEM;
    else if (protobuf_c_message_get_packed_size(pb) + 1 > cap)
        rc = ERR_FULL;
    if (rc == ERR_OK) {
        out[0] = (uint8_t)m->kind;
        *n = 1 + protobuf_c_message_pack(pb, out + 1);
    }
    arena_free(&a);
    return rc;
}

static const ProtobufCMessageDescriptor *descriptor_of(enum codec_kind kind)
{
    switch (kind) {
    case CODEC_UPDATE:
        return &pb__update__descriptor;
    case CODEC_ANNOUNCE:
        return &pb__announce__descriptor;
    case CODEC_FORWARD:
        return &pb__forward__descriptor;
    case CODEC_MOVED:
        return &pb__moved__descriptor;
    case CODEC_ACTIVITY:
        return &pb__activity__descriptor;
    case CODEC_CLAIM:
        return &pb__claim__descriptor;
    case CODEC_VOTE:
        return &pb__vote__descriptor;
    case CODEC_PULL_REQUEST:
        return &pb__pull_request__descriptor;
    case CODEC_PULL_REPLY:
        return &pb__pull_reply__descriptor;
    }
    return NULL;
}

static int message_from_pb(const void *pb, struct codec_message *out)
{
    switch (out->kind) {
    case CODEC_UPDATE:
        return update_from_pb(pb, &out->update);
    case CODEC_ANNOUNCE:
        return announce_from_pb(pb, &out->announce);
    case CODEC_FORWARD:
        return forward_from_pb(pb, &out->forward);
    case CODEC_MOVED:
        return moved_from_pb(pb, &out->moved);
    case CODEC_ACTIVITY:
        return activity_from_pb(pb, &out->activity);
    case CODEC_CLAIM:
        return claim_from_pb(pb, &out->claim);
    case CODEC_VOTE:
        return vote_from_pb(pb, &out->vote);
    case CODEC_PULL_REQUEST:
        return pull_request_from_pb(pb, &out->pull_request);
    case CODEC_PULL_REPLY:
        return pull_reply_from_pb(pb, &out->pull_reply);
    }
    return ERR_INVALID;
}

int codec_decode(struct slice bytes, struct codec_message *out)
{
    struct arena a = arena_of(DECODE_BUDGET_BYTES);
    ProtobufCAllocator allocator = arena_allocator(&a);
    const ProtobufCMessageDescriptor *descriptor;
    ProtobufCMessage *pb;
    int rc = ERR_INVALID;

    memset(out, 0, sizeof *out);
    if (bytes.n == 0)
        return ERR_TRUNCATED;
    if (bytes.n > CODEC_MESSAGE_MAX)
        return ERR_FULL;
    descriptor = descriptor_of(bytes.p[0]);
    if (!descriptor)
        return ERR_UNSUPPORTED;
    pb = protobuf_c_message_unpack(descriptor, &allocator, bytes.n - 1, bytes.p + 1);
    if (pb) {
        out->kind = bytes.p[0];
        rc = message_from_pb(pb, out);
        if (rc != ERR_OK)
            codec_message_free(out);
    }
    arena_free(&a);
    return rc;
}

void codec_message_free(struct codec_message *m)
{
    switch (m->kind) {
    case CODEC_UPDATE:
        free_records(m->update.records, m->update.n_records);
        free(m->update.group_sizes);
        break;
    case CODEC_ANNOUNCE:
        free(m->announce.applied);
        free(m->announce.heard);
        free(m->announce.epochs);
        free(m->announce.sure_of);
        break;
    case CODEC_FORWARD:
        free(m->forward.datagram);
        break;
    case CODEC_MOVED:
        break;
    case CODEC_ACTIVITY:
        free(m->activity.spi_in);
        free(m->activity.age_ms);
        break;
    case CODEC_CLAIM:
        break;
    case CODEC_VOTE:
        free(m->vote.ballots);
        free(m->vote.witnesses);
        break;
    case CODEC_PULL_REQUEST:
        free(m->pull_request.vector);
        break;
    case CODEC_PULL_REPLY:
        free_records(m->pull_reply.records, m->pull_reply.n_records);
        free(m->pull_reply.vector);
        break;
    }
    memset(m, 0, sizeof *m);
}
