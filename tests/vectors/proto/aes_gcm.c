/* AES-GCM with a 96-bit nonce: D. McGrew and J. Viega, "The Galois/Counter Mode of
 * Operation (GCM)", appendix B, the submission from which NIST SP 800-38D came; numbered
 * as there. RFC 4106 has no vectors of its own: ESP only says how the nonce is made (salt
 * and explicit IV, §4) and what is authenticated (§5). */
#include "vectors.h"

const struct cipher_vector gcm_vectors[] = {
    {.id = ENCR_AES_GCM_16,
     .key_bits = 128,
     .source = "McGrew and Viega, test case 1",
     .key = "00000000000000000000000000000000",
     .iv = "000000000000000000000000",
     .tag = "58e2fccefa7e3061367f1d57a4e7455a"},
    {.id = ENCR_AES_GCM_16,
     .key_bits = 128,
     .source = "McGrew and Viega, test case 2",
     .key = "00000000000000000000000000000000",
     .iv = "000000000000000000000000",
     .plain = "00000000000000000000000000000000",
     .cipher = "0388dace60b6a392f328c2b971b2fe78",
     .tag = "ab6e47d42cec13bdf53a67b21257bddf"},
    {.id = ENCR_AES_GCM_16,
     .key_bits = 128,
     .source = "McGrew and Viega, test case 3",
     .key = "feffe9928665731c6d6a8f9467308308",
     .iv = "cafebabefacedbaddecaf888",
     .plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
              "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     .cipher = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
               "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
     .tag = "4d5c2af327cd64a62cf35abd2ba6fab4"},
    {.id = ENCR_AES_GCM_16,
     .key_bits = 128,
     .source = "McGrew and Viega, test case 4",
     .key = "feffe9928665731c6d6a8f9467308308",
     .iv = "cafebabefacedbaddecaf888",
     .aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     .plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
              "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     .cipher = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
               "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
     .tag = "5bc94fbc3221a5db94fae95ae7121a47"},
    {.id = ENCR_AES_GCM_16,
     .key_bits = 256,
     .source = "McGrew and Viega, test case 13",
     .key = "0000000000000000000000000000000000000000000000000000000000000000",
     .iv = "000000000000000000000000",
     .tag = "530f8afbc74536b9a963b4f1c4cb738b"},
    {.id = ENCR_AES_GCM_16,
     .key_bits = 256,
     .source = "McGrew and Viega, test case 14",
     .key = "0000000000000000000000000000000000000000000000000000000000000000",
     .iv = "000000000000000000000000",
     .plain = "00000000000000000000000000000000",
     .cipher = "cea7403d4d606b6e074ec5d3baf39d18",
     .tag = "d0d1c8a799996bf0265b98b5d48ab919"},
    {.id = ENCR_AES_GCM_16,
     .key_bits = 256,
     .source = "McGrew and Viega, test case 15",
     .key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     .iv = "cafebabefacedbaddecaf888",
     .plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
              "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     .cipher = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
               "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
     .tag = "b094dac5d93471bdec1a502270e3cc6c"},
    {.id = ENCR_AES_GCM_16,
     .key_bits = 256,
     .source = "McGrew and Viega, test case 16",
     .key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     .iv = "cafebabefacedbaddecaf888",
     .aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     .plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
              "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     .cipher = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
               "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
     .tag = "76fc6ece0f4e1768cddf8853bb2d551b"},
};
const size_t gcm_vector_count = sizeof gcm_vectors / sizeof *gcm_vectors;
