#include "sync/store.h"

#include <stdlib.h>
#include <string.h>

void store_recovery_free(struct sync_recovery *recovery)
{
    for (size_t i = 0; i < recovery->n_records; i++)
        record_free(recovery->records[i]);
    free(recovery->records);
    free(recovery->vector);
    free(recovery->epochs);
    memset(recovery, 0, sizeof *recovery);
}
