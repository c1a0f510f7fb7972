#!/usr/bin/python3
"""Makes vectors.h: ESP packets of another implementation (scapy's), one IPv4 and one
IPv6 inner packet for each Child suite, from fixed keys and IVs.

    make_vectors.py > vectors.h        (needs python3-scapy)
"""
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

# name, IANA encryption, key bits, IANA integrity, scapy cipher, key+salt, IV, scapy MAC, MAC key
SUITES = [
    ("aes128gcm16", 20, 128, 0, "AES-GCM", 20, 8, None, 0),
    ("aes256gcm16", 20, 256, 0, "AES-GCM", 36, 8, None, 0),
    ("aes128-sha256", 12, 128, 12, "AES-CBC", 16, 16, "SHA2-256-128", 32),
    ("aes256-sha256", 12, 256, 12, "AES-CBC", 32, 16, "SHA2-256-128", 32),
    ("aes128-sha1", 12, 128, 2, "AES-CBC", 16, 16, "HMAC-SHA1-96", 20),
    ("aes256-sha1", 12, 256, 2, "AES-CBC", 32, 16, "HMAC-SHA1-96", 20),
    ("null-sha256", 11, 0, 12, "NULL", 0, 0, "SHA2-256-128", 32),
    ("null-sha1", 11, 0, 2, "NULL", 0, 0, "HMAC-SHA1-96", 20),
]
INNER = [
    IP(src="203.0.113.9", dst="10.1.2.3", id=7) / UDP(sport=4000, dport=53) / Raw(b"anysa, inner four"),
    IPv6(src="2001:db8:1::9", dst="2001:db8:2::3") / UDP(sport=4000, dport=53) / Raw(b"anysa, inner six"),
]


def run(start, n):
    return bytes((start + 7 * i) & 255 for i in range(n))


def text(b):
    return '"' + b.hex() + '"'


print("""/* Made by make_vectors.py with scapy's ESP: do not edit. */
#include <stdint.h>

struct esp_vector {
    const char *name;
    uint16_t encr, encr_bits, integ;
    uint32_t spi, sequence;
    const char *encr_key, *integ_key; /* hex */
    const char *iv, *inner, *esp;
};

/* clang-format off */
static const struct esp_vector esp_vectors[] = {""")
for name, encr, bits, integ, cipher, key_n, iv_n, mac, mac_n in SUITES:
    for inner in INNER:
        spi, sequence = 0x00400000 + encr * 256 + integ, 0x01020304
        key, mac_key, iv = run(17, key_n), run(101, mac_n), run(200, iv_n)
        sa = SecurityAssociation(ESP, spi=spi, crypt_algo=cipher, crypt_key=key or None,
                                 auth_algo=mac or "NULL", auth_key=mac_key or None,
                                 tunnel_header=IP(src="198.51.100.1", dst="192.0.2.1"))
        inner = inner.__class__(bytes(inner))
        sealed = bytes(sa.encrypt(inner, seq_num=sequence, iv=iv or None)[ESP])
        print(f'    {{"{name}", {encr}, {bits}, {integ}, {spi:#x}, {sequence:#x},')
        for item in (key, mac_key, iv, bytes(inner), sealed):
            print("     " + text(item) + ("}," if item is sealed else ","))
print("""};
/* clang-format on */""")
