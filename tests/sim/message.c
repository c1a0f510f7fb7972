#include "tests/sim/message.h"

#include <stdlib.h>
#include <string.h>

static void *copy_of(const void *p, size_t n)
{
    void *copy = n ? malloc(n) : NULL;

    if (n && !copy)
        abort();
    return n ? memcpy(copy, p, n) : NULL;
}

static struct record **copy_records(struct record *const *from, size_t n)
{
    struct record **to = copy_of(from, n * sizeof(struct record *));

    for (size_t i = 0; i < n; i++) {
        to[i] = record_clone(from[i]);
        if (!to[i])
            abort();
    }
    return to;
}

/* A kind that this does not know does not compile. */
void message_own(struct codec_message *m)
{
    switch (m->kind) {
    case CODEC_UPDATE: {
        struct codec_update *u = &m->update;
        u->records = copy_records(u->records, u->n_records);
        u->group_sizes = copy_of(u->group_sizes, u->n_groups * sizeof *u->group_sizes);
        break;
    }
    case CODEC_ANNOUNCE: {
        struct codec_announce *a = &m->announce;
        a->applied = copy_of(a->applied, a->n_applied * sizeof *a->applied);
        a->heard = copy_of(a->heard, a->n_heard * sizeof *a->heard);
        a->epochs = copy_of(a->epochs, a->n_epochs * sizeof *a->epochs);
        a->sure_of = copy_of(a->sure_of, a->n_sure_of * sizeof *a->sure_of);
        break;
    }
    case CODEC_FORWARD:
        m->forward.datagram = copy_of(m->forward.datagram, m->forward.n_datagram);
        break;
    case CODEC_PULL_REQUEST: {
        struct codec_pull_request *q = &m->pull_request;
        q->vector = copy_of(q->vector, q->n_vector * sizeof *q->vector);
        break;
    }
    case CODEC_PULL_REPLY: {
        struct codec_pull_reply *r = &m->pull_reply;
        r->records = copy_records(r->records, r->n_records);
        r->vector = copy_of(r->vector, r->n_vector * sizeof *r->vector);
        break;
    }
    case CODEC_ACTIVITY: {
        struct codec_activity *a = &m->activity;
        a->spi_in = copy_of(a->spi_in, a->n * sizeof *a->spi_in);
        a->age_ms = copy_of(a->age_ms, a->age_ms ? a->n * sizeof *a->age_ms : 0);
        break;
    }
    case CODEC_VOTE: {
        struct codec_vote *v = &m->vote;
        v->ballots = copy_of(v->ballots, v->n_ballots * sizeof *v->ballots);
        v->witnesses = copy_of(v->witnesses, v->n_witnesses * sizeof *v->witnesses);
        break;
    }
    case CODEC_CLAIM:
    case CODEC_MOVED:
        break;
    }
}
