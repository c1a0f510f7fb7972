/* HMAC: RFC 2202 (SHA-1), RFC 4868 §2.7.2 (as an integrity transform, key as long as the
 * digest), RFC 4231 (SHA-2; RFC 4868 §2.7.1 repeats the first cases for the PRFs). */
#include "vectors.h"

const struct mac_vector mac_vectors[] = {
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA1_96,
     .source = "RFC 2202 §3 case 1, first 96 bits",
     .key = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
     .text = "Hi There",
     .mac = "b617318655057264e28bc0b6"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA1_96,
     .source = "RFC 2202 §3 case 2, first 96 bits",
     .key = "4a656665",
     .text = "what do ya want for nothing?",
     .mac = "effcdf6ae5eb2fa2d27416d5"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA1_96,
     .source = "RFC 2202 §3 case 3, first 96 bits",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     .data = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
             "dddddddddddddddddddddddddddddddddddd",
     .mac = "125d7342b9ac11cd91a39af4"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA1_96,
     .source = "RFC 2202 §3 case 4, first 96 bits",
     .key = "0102030405060708090a0b0c0d0e0f10111213141516171819",
     .data = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
             "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
     .mac = "4c9007f4026250c6bc8414f9"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA1_96,
     .source = "RFC 2202 §3 case 5, first 96 bits",
     .key = "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c",
     .text = "Test With Truncation",
     .mac = "4c1a03424b55e07fe7f27be1"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA1_96,
     .source = "RFC 2202 §3 case 6, first 96 bits",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     .text = "Test Using Larger Than Block-Size Key - Hash Key First",
     .mac = "aa4ae5e15272d00e95705637"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA1_96,
     .source = "RFC 2202 §3 case 7, first 96 bits",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     .text = "Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data",
     .mac = "e8e99d0f45237d786d6bbaa7"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA2_256_128,
     .source = "RFC 4868 §2.7.2.1 AUTH256-1",
     .key = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
     .text = "Hi There",
     .mac = "198a607eb44bfbc69903a0f1cf2bbdc5"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA2_256_128,
     .source = "RFC 4868 §2.7.2.1 AUTH256-2",
     .key = "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
     .text = "what do ya want for nothing?",
     .mac = "167f928588c5cc2eef8e3093caa0e87c"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA2_256_128,
     .source = "RFC 4868 §2.7.2.1 AUTH256-3",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     .data = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
             "dddddddddddddddddddddddddddddddddddd",
     .mac = "cdcb1220d1ecccea91e53aba3092f962"},
    {.type = TRANSFORM_INTEG,
     .id = INTEG_HMAC_SHA2_256_128,
     .source = "RFC 4868 §2.7.2.1 AUTH256-4",
     .key = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
     .data = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
             "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
     .mac = "372efcf9b40b35c2115b1346903d2ef4"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_256,
     .source = "RFC 4231 §4.2, case 1",
     .key = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
     .text = "Hi There",
     .mac = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_256,
     .source = "RFC 4231 §4.3, case 2",
     .key = "4a656665",
     .text = "what do ya want for nothing?",
     .mac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_256,
     .source = "RFC 4231 §4.4, case 3",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     .data = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
             "dddddddddddddddddddddddddddddddddddd",
     .mac = "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_256,
     .source = "RFC 4231 §4.7, case 6",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaa",
     .text = "Test Using Larger Than Block-Size Key - Hash Key First",
     .mac = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_384,
     .source = "RFC 4231 §4.2, case 1",
     .key = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
     .text = "Hi There",
     .mac = "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
            "faea9ea9076ede7f4af152e8b2fa9cb6"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_384,
     .source = "RFC 4231 §4.3, case 2",
     .key = "4a656665",
     .text = "what do ya want for nothing?",
     .mac = "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
            "8e2240ca5e69e2c78b3239ecfab21649"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_384,
     .source = "RFC 4231 §4.4, case 3",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     .data = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
             "dddddddddddddddddddddddddddddddddddd",
     .mac = "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b"
            "2a5ab39dc13814b94e3ab6e101a34f27"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_384,
     .source = "RFC 4231 §4.7, case 6",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaa",
     .text = "Test Using Larger Than Block-Size Key - Hash Key First",
     .mac = "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
            "0c2ef6ab4030fe8296248df163f44952"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_512,
     .source = "RFC 4231 §4.2, case 1",
     .key = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
     .text = "Hi There",
     .mac = "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
            "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_512,
     .source = "RFC 4231 §4.3, case 2",
     .key = "4a656665",
     .text = "what do ya want for nothing?",
     .mac = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_512,
     .source = "RFC 4231 §4.4, case 3",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     .data = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
             "dddddddddddddddddddddddddddddddddddd",
     .mac = "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
            "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb"},
    {.type = TRANSFORM_PRF,
     .id = PRF_HMAC_SHA2_512,
     .source = "RFC 4231 §4.7, case 6",
     .key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaa",
     .text = "Test Using Larger Than Block-Size Key - Hash Key First",
     .mac = "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
            "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"},
};
const size_t mac_vector_count = sizeof mac_vectors / sizeof *mac_vectors;
