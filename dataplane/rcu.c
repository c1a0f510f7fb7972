#include "dataplane/rcu.h"

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
