/* The slow arithmetic, run on some other thread. */
#include <stdlib.h>

#include "ike/internal.h"

void ike_job_run(struct ike_job *job)
{
    if (job->kind == JOB_KEYGEN) {
        job->dh = dh_generate(job->group);
        job->rc = job->dh ? ERR_OK : ERR_CRYPTO;
    } else if (job->kind == JOB_REFILL) {
        for (size_t i = 0; i < KEY_BATCH; i++)
            job->batch[i] = dh_generate(job->group);
    } else {
        if (job->kind == JOB_EXCHANGE && !job->dh)
            job->dh = dh_generate(job->group);
        struct slice peer = {job->peer_public, dh_public_len(job->group)};

        job->rc = job->dh ? dh_derive(job->dh, peer, job->shared) : ERR_CRYPTO;
    }
}

void ike_job_free(struct ike_job *job)
{
    if (!job)
        return;
    if (job->kind != JOB_DERIVE)
        dh_free(job->dh); /* not taken */
    for (size_t i = 0; i < KEY_BATCH; i++)
        dh_free(job->batch[i]); /* likewise */
    wipe(job, sizeof *job);
    free(job);
}
