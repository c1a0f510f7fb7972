/* What of a uevent means that this machine is another one now. */
#include <criterion/criterion.h>

#include "node/node.h"

#define IS_NEW(text) generation_is_new(text, sizeof(text) - 1)

Test(generation, the_kernels_word_is_known)
{
    cr_assert(IS_NEW("change@/devices/x\0ACTION=change\0NEW_VMGENID=1\0SEQNUM=7\0"));
    cr_assert(IS_NEW("change@/devices/x\0NEW_VMGENID=1"), "cut after it");
}

Test(generation, anything_else_is_not)
{
    cr_assert_not(IS_NEW(""));
    cr_assert_not(IS_NEW("\0\0\0"));
    cr_assert_not(IS_NEW("change@/devices/x\0NEW_VMGENID=0\0"));
    cr_assert_not(IS_NEW("change@/devices/x\0NEW_VMGENID=11\0"));
    cr_assert_not(IS_NEW("change@/devices/x\0SYNTH_ARG_NEW_VMGENID=1\0"));
    cr_assert_not(generation_is_new("NEW_VMGENID=1", 12), "cut within it");
}
