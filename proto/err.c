#include "proto/err.h"

static const char *const texts[] = {
#define ERR(name, text) [ERR_##name] = (text),
#include "proto/err.def"
#undef ERR
};

const char *err_text(int code)
{
    if (code < 0 || code >= ERR_COUNT)
        return "unknown error";
    return texts[code];
}
