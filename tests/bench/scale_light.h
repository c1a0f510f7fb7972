/* What members say, seen at the codec (linked with --wrap, see CMakeLists.txt): the kind of each
 * message, and on demand a copy, so that its receivers need not open and decode. Senders encode
 * and seal in any case, so sizes are true. */
#ifndef TESTS_BENCH_SCALE_LIGHT_H
#define TESTS_BENCH_SCALE_LIGHT_H

#include "proto/codec.h"

/* From now on frames that come with their message are not opened, and the copy is what decoding
 * yields. */
void light_imitate(bool on);
/* Before each step: what the frame that comes with it says, borrowed; NULL: it brings none, or is
 * really opened. */
void light_step(const struct codec_message *received);
/* Of the k-th message that this step sealed. */
enum codec_kind light_kind(size_t k);
/* ... and itself, which the caller takes (light_free); NULL when nothing is imitated. */
struct codec_message *light_take(size_t k);
void light_free(struct codec_message *m);

#endif
