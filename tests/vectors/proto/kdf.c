/* Key derivation.
 *
 * HKDF: RFC 5869 appendix A. prf+ (RFC 7296 §2.13) is HKDF-Expand under another name, so
 * that the RFC's vectors serve it too. Besides, an IKEv2 derivation recorded in the
 * comments of libreswan's CAVS tool (its SKEYSEED is HMAC-SHA1 of g^ir under Ni | Nr), and
 * values by Python's hmac module for the digests that no RFC shows. */
#include "vectors.h"

const struct prf_plus_vector prf_plus_vectors[] = {
    {.hash = HASH_SHA256,
     .source = "RFC 5869 §A.1: its PRK, info and OKM",
     .key = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
     .seed = "f0f1f2f3f4f5f6f7f8f9",
     .out = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
            "34007208d5b887185865"},
    {.hash = HASH_SHA256,
     .source = "RFC 5869 §A.2: its PRK, info and OKM",
     .key = "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
     .seed = "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
             "d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
             "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
     .out = "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"},
    {.hash = HASH_SHA1,
     .source = "libreswan CAVS run: prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)",
     .key = "a9a7b222b59f8f48645f28a1db5b5f5d7479cba7",
     .seed = "32b50d5f4a3763f39206a04b26564cb134c9e7c1888687853ff77d760d2b2199",
     .out = "a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002"
            "a2a63080e514a062768b76606f9fa5e992204fc5a670bde3f10d6b027113936a"
            "5c55b648a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd1119"
            "8af1670b143d384bd275c5f594cf266b05ebadca855e4249520a441a81157435"
            "a7a56cc4"},
    {.hash = HASH_SHA1,
     .source = "libreswan CAVS run: prf+(SK_d, g^ir (new) | Ni | Nr)",
     .key = "a14293677cc80ff8f9cc0eee30d895da9d8f4056",
     .seed = "863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330"
             "32b50d5f4a3763f39206a04b26564cb1",
     .out = "bb43244c1860ad65ee1e211ffe8bb3661750c8f89cb9f547df7f4fa61d373016"
            "28190e38c66232eab4b3ab14c400a5197dd3730ed4820a8a10394d51e1c04000"
            "52f63ebd36b0e7ef53aaed31eba4a5080d7d4b5666023a8bbb5ffb7857240f9a"
            "05884d1b7d2f933708450b7b3288f1fc863ab49fa901227cffc06e27899c7054"
            "d56fd74c"},
    {.hash = HASH_SHA256,
     .source = "Python hmac: key 00 01 ..., seed 80 81 ...",
     .key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
     .seed = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
             "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
             "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf",
     .out = "01badc3c598275451b33f8921834939541b296fc908c090bcaf4c6bc43b53add"
            "cbae51ec7ce855b7034866d57711c735e24169449cd633470a8537f9db01e71f"
            "b03449d8cd35ec7eb84143df5551179cf53fb82e432369da04ccf3e847e45780"
            "00d8fa45"},
    {.hash = HASH_SHA384,
     .source = "Python hmac: key 00 01 ..., seed 80 81 ...",
     .key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "202122232425262728292a2b2c2d2e2f",
     .seed = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
             "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
             "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf",
     .out = "49ae674b6f8cf8c270cdce8f9a9678c1cdab28dab1c80951e24be06fb2a91509"
            "d0169b098dfd05184f1cf4d53faf16e8f4e73b0f0c1ffcfb58d3f08a6f54f02f"
            "d034ddd34c45f352ff72836e9b4a09309c1274975c2b45dfabc48fa831f81762"
            "d238024445a8614eba8b0d16f70cdba254d71cf55b7935a49e10027d08718fee"
            "50eda171a12abc453e33d8ca7dff3b2fdbae20b4c4d5ca1eb600663b86960f79"
            "7e315c145387dc77a988c179b5ffdaaf85a12a0f8faf2cbe177c6773073159b8"
            "9702a2a790bbdf31"},
    {.hash = HASH_SHA512,
     .source = "Python hmac: key 00 01 ..., seed 80 81 ...",
     .key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
     .seed = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
             "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
             "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf",
     .out = "718e9f2db3e623db7542a96b023555ef468b03eb0b29f68cbd30ee0e5c300a6f"
            "35d88723da09d292ce2da80c4974798906816e3d57aab5be4e546217f6204750"
            "cd8127233bc4f1102acd4ebb775108c1824410e9d68cb521b5ed2071e216d894"
            "41fd4c40f8fed00fe8d4ce93047f4be6e82f366ee5ade1f8ed1ac9a7afe95d97"
            "1fabab387218dcc5307796b59f17a246cc6d220fd2ad0f1b96d798a54133f630"
            "3a9a2a08345bfc6ac7785bb1bdf4f5074736780e4c41c841837b2aa2b34e89c0"
            "125126bdf59c5385360cf7f19a41c6af38c52d6afbb8efe107a9ea0da534c911"
            "d7e83744353db2eb463b84ff665e5362039e30bccb0d913a6677"},
};
const size_t prf_plus_vector_count = sizeof prf_plus_vectors / sizeof *prf_plus_vectors;

const struct hkdf_vector hkdf_vectors[] = {
    {.hash = HASH_SHA256,
     .source = "RFC 5869 §A.1",
     .ikm = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
     .salt = "000102030405060708090a0b0c",
     .info = "f0f1f2f3f4f5f6f7f8f9",
     .okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
            "34007208d5b887185865"},
    {.hash = HASH_SHA256,
     .source = "RFC 5869 §A.2",
     .ikm = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
            "404142434445464748494a4b4c4d4e4f",
     .salt = "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
             "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
             "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
     .info = "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
             "d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
             "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
     .okm = "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"},
    {.hash = HASH_SHA256,
     .source = "RFC 5869 §A.3",
     .ikm = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
     .okm = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
            "9d201395faa4b61a96c8"},
    {.hash = HASH_SHA1,
     .source = "RFC 5869 §A.4",
     .ikm = "0b0b0b0b0b0b0b0b0b0b0b",
     .salt = "000102030405060708090a0b0c",
     .info = "f0f1f2f3f4f5f6f7f8f9",
     .okm = "085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2"
            "c22e422478d305f3f896"},
};
const size_t hkdf_vector_count = sizeof hkdf_vectors / sizeof *hkdf_vectors;
