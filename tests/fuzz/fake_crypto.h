/* proto/crypto.h without an algorithm behind it, for fuzz targets that link
 * fake_crypto.c in place of the crypto library: thousands of times cheaper, the
 * same bytes at every run, and every octet it reads or writes is seen by the
 * sanitizers, which cannot look into the library. Lengths, errors and who may
 * open what are those of the real one; secrecy there is none. */
#ifndef TESTS_FUZZ_FAKE_CRYPTO_H
#define TESTS_FUZZ_FAKE_CRYPTO_H

/* "Random" keys begin anew, so that a run depends on its input alone. */
void fake_crypto_reset(void);

#endif
