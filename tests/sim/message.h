/* Copies of messages, for harnesses that spare receivers the decoding. */
#ifndef TESTS_SIM_MESSAGE_H
#define TESTS_SIM_MESSAGE_H

#include "proto/codec.h"

/* All that a message points to becomes its own, as if it had been decoded: codec_message_free. */
void message_own(struct codec_message *m);

#endif
