/* The member list in the text of a node file, with one member more or fewer. Everything else
 * stays as it stands, comments included. Any thread. */
#ifndef NODE_MEMBERS_EDIT_H
#define NODE_MEMBERS_EDIT_H

#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"

enum { MEMBERS_EDIT_ROOM = 512 }; /* a new text is at most so much longer */

/* The member at this place of the list goes. 0; or ERR_INVALID where the list is written in a way
 * that is not understood here. What comes of either must be read as a configuration again: the
 * text is edited by position. */
int members_edit_remove(struct slice text, size_t index, char *out, size_t *n_out);
/* One comes last. The address needs no escape inside quotation marks. ERR_INVALID as above. */
int members_edit_add(struct slice text, uint16_t slot, const char *address, char *out,
                     size_t *n_out);

#endif
