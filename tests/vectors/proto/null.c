/* NULL encryption (RFC 2410): the identity, without key or IV. */
#include "vectors.h"

const struct cipher_vector null_vectors[] = {
    {.id = ENCR_NULL,
     .key_bits = 0,
     .source = "RFC 2410, test case 1",
     .plain = "0123456789abcdef",
     .cipher = "0123456789abcdef"},
    {.id = ENCR_NULL,
     .key_bits = 0,
     .source = "RFC 2410, test case 2",
     .plain = "4e6574776f726b2053656375726974792050656f706c65204861766520412053"
              "7472616e67652053656e7365204f662048756d6f72",
     .cipher = "4e6574776f726b2053656375726974792050656f706c65204861766520412053"
               "7472616e67652053656e7365204f662048756d6f72"},
};
const size_t null_vector_count = sizeof null_vectors / sizeof *null_vectors;
