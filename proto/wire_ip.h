/* IP, UDP, TCP, ESP and GRE on the wire: sizes and numbers only. */
#ifndef PROTO_WIRE_IP_H
#define PROTO_WIRE_IP_H

enum {
    IPV4_HEADER_BYTES = 20,
    IPV6_HEADER_BYTES = 40,
    UDP_HEADER_BYTES = 8,
    TCP_HEADER_BYTES = 20,
    ESP_HEADER_BYTES = 8,  /* SPI, sequence number (RFC 4303 §2) */
    ESP_TRAILER_BYTES = 2, /* pad length, next header */
    ESP_SPI_MIN = 256,     /* RFC 4303 §2.1 */
    GRE_HEADER_BYTES = 4,  /* RFC 2784; each option adds 4 */
    GRE_OPTION_BYTES = 4,
    PACKET_MAX = 65535,
};

enum ip_protocol {
    IP_PROTO_ICMP = 1,
    IP_PROTO_IPV4 = 4, /* next header of tunnelled IPv4 */
    IP_PROTO_TCP = 6,
    IP_PROTO_UDP = 17,
    IP_PROTO_IPV6 = 41,
    IP_PROTO_GRE = 47,
    IP_PROTO_ESP = 50,
    IP_PROTO_ICMPV6 = 58,
    IP_PROTO_NONE = 59, /* ESP dummy packets (RFC 4303 §2.6) */
};

enum gre_bits {
    GRE_CHECKSUM = 0x8000,
    GRE_KEY = 0x2000,
    GRE_SEQUENCE = 0x1000,
    GRE_VERSION = 0x0007
};
enum gre_payload { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd };

#endif
