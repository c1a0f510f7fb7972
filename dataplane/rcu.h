/* Read-copy-update for this module: liburcu's membarrier flavour. A thread that
 * reads is registered first (rcu_join) and leaves again; joins may nest. */
#ifndef DATAPLANE_RCU_H
#define DATAPLANE_RCU_H

#define URCU_API_MAP /* rcu_read_lock and so on, without a flavour in their names */
#include <urcu/urcu-memb.h>

#include <urcu/rculfhash.h>

void rcu_join(void);
void rcu_leave(void);
/* Starts the library's own threads. ERR_OK or ERR_NOMEM. */
int rcu_prepare(void);

#endif
