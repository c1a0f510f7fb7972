#include "dataplane/provider.h"

#include <string.h>

const struct provider_ops *const provider_table[] = {&provider_openssl};
const size_t provider_count = sizeof provider_table / sizeof *provider_table;

const struct provider_ops *provider_find(const char *name)
{
    bool any = strcmp(name, "auto") == 0;

    for (size_t i = 0; i < provider_count; i++)
        if ((any || strcmp(name, provider_table[i]->name) == 0) && provider_table[i]->usable())
            return provider_table[i];
    return NULL;
}
