/* AES-CBC: NIST SP 800-38A appendix F.2, and RFC 3602 §4, which made it an ESP cipher. */
#include "vectors.h"

const struct cipher_vector cbc_vectors[] = {
    {.id = ENCR_AES_CBC,
     .key_bits = 128,
     .source = "NIST SP 800-38A F.2.1, F.2.2",
     .key = "2b7e151628aed2a6abf7158809cf4f3c",
     .iv = "000102030405060708090a0b0c0d0e0f",
     .plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
              "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
     .cipher = "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
               "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"},
    {.id = ENCR_AES_CBC,
     .key_bits = 256,
     .source = "NIST SP 800-38A F.2.5, F.2.6",
     .key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
     .iv = "000102030405060708090a0b0c0d0e0f",
     .plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
              "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
     .cipher = "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
               "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"},
    {.id = ENCR_AES_CBC,
     .key_bits = 128,
     .source = "RFC 3602 §4 case 1",
     .key = "06a9214036b8a15b512e03d534120006",
     .iv = "3dafba429d9eb430b422da802c9fac41",
     .plain = "53696e676c6520626c6f636b206d7367",
     .cipher = "e353779c1079aeb82708942dbe77181a"},
    {.id = ENCR_AES_CBC,
     .key_bits = 128,
     .source = "RFC 3602 §4 case 2",
     .key = "c286696d887c9aa0611bbb3e2025a45a",
     .iv = "562e17996d093d28ddb3ba695a2e6f58",
     .plain = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
     .cipher = "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
};
const size_t cbc_vector_count = sizeof cbc_vectors / sizeof *cbc_vectors;
