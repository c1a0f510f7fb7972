/* Child SAs that the peer does not have, though a node may still bring them.
 *
 * An exchange in flight when the mesh splits is answered on one side; its router may then speak
 * with the other, which does not know the SA, and gives it up: by a DELETE, or because its rekey
 * met CHILD_SA_NOT_FOUND. When the sides meet again that SA would stay with us for its whole
 * lifetime. So the IKE record remembers the last SPIs of the peer that nobody knew, and its owner
 * deletes the Child SA when it turns up. */
#include <inttypes.h>
#include <string.h>

#include "ike/internal.h"

bool given_up_has(const struct ike_record *ike, uint32_t spi_out)
{
    for (size_t i = 0; i < ike->n_given_up; i++)
        if (ike->given_up[i] == spi_out)
            return true;
    return false;
}

bool given_up_note(struct ike_record *ike, uint32_t spi_out)
{
    if (given_up_has(ike, spi_out))
        return false;
    if (ike->n_given_up == IKE_GIVEN_UP_MAX)
        memmove(ike->given_up, ike->given_up + 1,
                (size_t)--ike->n_given_up * sizeof *ike->given_up);
    ike->given_up[ike->n_given_up++] = spi_out;
    return true;
}

void given_up_forget(struct ike_record *ike, uint32_t spi_out)
{
    size_t kept = 0;

    for (size_t i = 0; i < ike->n_given_up; i++)
        if (ike->given_up[i] != spi_out)
            ike->given_up[kept++] = ike->given_up[i];
    ike->n_given_up = (uint8_t)kept;
}

static void tell(const struct child_record *child)
{
    log_info("ike", "Child SA in=0x%08" PRIx32 " out=0x%08" PRIx32 " deleted: its peer gave it up",
             child->spi_in, child->spi_out);
}

bool given_up_arrived(struct ike_engine *e, const struct ike_sa *sa, const struct record *r)
{
    if (!given_up_has(&sa->rec->ike, r->child.spi_out))
        return false;
    tell(&r->child);
    (void)group_add_tombstone(e, r);
    group_commit(e, NULL);
    return true;
}

bool given_up_sweep(struct ike_engine *e, struct ike_sa *sa)
{
    for (size_t i = 0; sa->rec->ike.n_given_up && i < sa->n_children; i++)
        if (given_up_has(&sa->rec->ike, sa->children[i]->child.spi_out)) {
            tell(&sa->children[i]->child);
            group_add_deleted_child(e, sa, i);
            group_commit(e, NULL);
            return true;
        }
    return false;
}
