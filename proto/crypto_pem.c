/* Whether a certificate and a private key belong together: asked when a configuration is read, so
 * that the mistake has a file and a line. */
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "proto/crypto.h"

static int no_passphrase(char *out, int size, int writing, void *ctx)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

enum pem_verdict crypto_check_pem(const char *cert_text, const char *key_text)
{
    BIO *cert_bio = BIO_new_mem_buf(cert_text, -1), *key_bio = BIO_new_mem_buf(key_text, -1);
    X509 *cert = cert_bio ? PEM_read_bio_X509(cert_bio, NULL, no_passphrase, NULL) : NULL;
    EVP_PKEY *key = key_bio ? PEM_read_bio_PrivateKey(key_bio, NULL, no_passphrase, NULL) : NULL;
    enum pem_verdict verdict = PEM_FITS;

    if (!cert)
        verdict = PEM_BAD_CERT;
    else if (!key)
        verdict = PEM_BAD_KEY;
    else if (X509_check_private_key(cert, key) != 1)
        verdict = PEM_MISMATCH;
    EVP_PKEY_free(key);
    X509_free(cert);
    BIO_free(key_bio);
    BIO_free(cert_bio);
    ERR_clear_error();
    return verdict;
}
