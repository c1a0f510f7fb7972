/* Error codes shared by every module. Functions that can fail return `int`:
 * 0 (ERR_OK) or one of these, negated nowhere, errno nowhere. */
#ifndef PROTO_ERR_H
#define PROTO_ERR_H

enum err {
#define ERR(name, text) ERR_##name,
#include "proto/err.def"
#undef ERR
    ERR_COUNT
};

/* The sentence of a code; never NULL, static storage, any thread. */
const char *err_text(int code);

#endif
