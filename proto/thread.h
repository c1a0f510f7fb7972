/* Threads and what they may do. Linux gives capabilities to each thread by itself; a new one
 * inherits them from the one that starts it. */
#ifndef PROTO_THREAD_H
#define PROTO_THREAD_H

#include <stdint.h>

/* First thing in a thread of ours: names it (15 characters count), blocks all signals, which are
 * the loop's business, and gives up all capabilities but that of locking memory. */
void thread_begin(const char *name);

#define CAPABILITY(number) (UINT64_C(1) << (number)) /* CAP_... of linux/capability.h */

/* Gives up all capabilities of this thread, and of those that it starts from here on, but these;
 * also the right to get them back by running another program. What we do not have stays away.
 * 0, or ERR_IO. */
int thread_keep_capabilities(uint64_t these);

#endif
