#include <ctype.h>
#include <stddef.h>

#include "dataplane/dataplane.h"

static const char *const texts[] = {
#define DROP(name, text) [DROP_##name] = text,
#include "dataplane/drops.def"
#undef DROP
};

/* The labels are the suffixes in lower case; they are made once, before main. */
static char names[DROP_COUNT][24] = {
#define DROP(name, text) [DROP_##name] = #name,
#include "dataplane/drops.def"
#undef DROP
};

__attribute__((constructor)) static void lower_names(void)
{
    for (size_t i = 0; i < DROP_COUNT; i++)
        for (char *c = names[i]; *c; c++)
            *c = (char)tolower((unsigned char)*c);
}

const char *dp_drop_name(enum dp_drop reason)
{
    return (unsigned)reason < DROP_COUNT ? names[reason] : "unknown";
}

const char *dp_drop_text(enum dp_drop reason)
{
    return (unsigned)reason < DROP_COUNT ? texts[reason] : "unknown";
}
