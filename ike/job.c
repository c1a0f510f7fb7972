/* The slow arithmetic, run on some other thread. */
#include <stdlib.h>

#include "ike/internal.h"

void ike_job_run(struct ike_job *job)
{
    if (job->kind == JOB_KEYGEN) {
        job->dh = dh_generate(job->group);
        job->rc = job->dh ? ERR_OK : ERR_CRYPTO;
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
    wipe(job, sizeof *job);
    free(job);
}
