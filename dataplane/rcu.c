#include "dataplane/rcu.h"

#include "proto/err.h"

static _Thread_local unsigned joined;

void rcu_join(void)
{
    if (joined++ == 0)
        rcu_register_thread();
}

void rcu_leave(void)
{
    if (--joined == 0)
        rcu_unregister_thread();
}

static void nothing(struct rcu_head *head)
{
    (void)head;
}

/* One thread frees what nobody reads any more; another one grows hash tables, and stays as long as
 * there is one of those. */
int rcu_prepare(void)
{
    static struct rcu_head head;
    static struct cds_lfht *kept;

    if (kept)
        return ERR_OK;
    rcu_join();
    call_rcu(&head, nothing);
    kept = cds_lfht_new(1, 1, 0, CDS_LFHT_AUTO_RESIZE, NULL);
    rcu_leave();
    return kept ? ERR_OK : ERR_NOMEM;
}
