/* What the process may do, and no longer may.
 *
 *   start        the capabilities that a start needs; no new ones by running a program; system
 *                calls that a node never makes fail
 *   threads      lanes, the journal's, and those of the libraries: none, but to lock memory
 *   in service   the loop thread: NET_ADMIN, for routes at a reload and at the end
 *
 * Library threads inherit from whoever starts them, so they are started early, by a thread that
 * has nothing to give. */
#ifndef NODE_PRIVILEGES_H
#define NODE_PRIVILEGES_H

#include "node/config.h"

/* Before any thread. ERR_OK, or ERR_IO with a log line. */
int privileges_begin(void);
/* When all sockets and devices are open. ERR_OK, or ERR_IO with a log line. */
int privileges_end_start(const struct config *config);

/* ---- privileges_calls.c ---- */
/* In this thread and those that it starts. ERR_OK, or ERR_UNSUPPORTED where the kernel has no such
 * filters, or ERR_IO. */
int privileges_forbid_calls(void);

#endif
