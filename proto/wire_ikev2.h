/* IKEv2 on the wire: numbers and limits of RFC 7296 and its extensions. */
#ifndef PROTO_WIRE_IKEV2_H
#define PROTO_WIRE_IKEV2_H

enum {
    IKE_PORT = 500,
    IKE_NATT_PORT = 4500,
    NON_ESP_MARKER_BYTES = 4, /* four zero octets before IKE on port 4500 (RFC 3948 §2.2) */
    IKE_HEADER_BYTES = 28,
    IKE_PAYLOAD_HEADER_BYTES = 4,
    IKE_SPI_BYTES = 8,
    IKE_VERSION_2 = 0x20,
    IKE_MESSAGE_MAX = 16384, /* larger messages are refused unread */
    IKE_NONCE_MIN = 16,
    IKE_NONCE_MAX = 256,
    IKE_PAYLOADS_MAX = 64,
    IKE_FRAGMENTS_MAX = 64,                              /* of one message, RFC 7383 */
    IKE_PACKET_OVERHEAD = 40 + 8 + NON_ESP_MARKER_BYTES, /* at most: IPv6, UDP, marker */
    /* A message of ours longer than this goes in fragments: it fills a packet of 1280 octets. */
    IKE_FRAGMENT_MAX = 1280 - IKE_PACKET_OVERHEAD,
};

enum ike_flag { IKE_FLAG_INITIATOR = 0x08, IKE_FLAG_VERSION = 0x10, IKE_FLAG_RESPONSE = 0x20 };

enum ike_exchange {
    IKE_SA_INIT = 34,
    IKE_AUTH = 35,
    CREATE_CHILD_SA = 36,
    INFORMATIONAL = 37,
};

enum ike_payload {
    PAYLOAD_NONE = 0,
    PAYLOAD_SA = 33,
    PAYLOAD_KE = 34,
    PAYLOAD_IDI = 35,
    PAYLOAD_IDR = 36,
    PAYLOAD_CERT = 37,
    PAYLOAD_CERTREQ = 38,
    PAYLOAD_AUTH = 39,
    PAYLOAD_NONCE = 40,
    PAYLOAD_NOTIFY = 41,
    PAYLOAD_DELETE = 42,
    PAYLOAD_VENDOR = 43,
    PAYLOAD_TSI = 44,
    PAYLOAD_TSR = 45,
    PAYLOAD_SK = 46,
    PAYLOAD_CP = 47,
    PAYLOAD_EAP = 48,
    PAYLOAD_SKF = 53,
};

enum ike_protocol { PROTOCOL_IKE = 1, PROTOCOL_AH = 2, PROTOCOL_ESP = 3 };

enum ike_id_type {
    ID_IPV4_ADDR = 1,
    ID_FQDN = 2,
    ID_RFC822_ADDR = 3,
    ID_IPV6_ADDR = 5,
    ID_DER_ASN1_DN = 9,
    ID_KEY_ID = 11,
};

enum ike_auth_method { AUTH_SHARED_KEY = 2 };

enum ike_ts_type { TS_IPV4_ADDR_RANGE = 7, TS_IPV6_ADDR_RANGE = 8 };

enum ike_notify { /* errors are below 16384 */
                  N_UNSUPPORTED_CRITICAL_PAYLOAD = 1,
                  N_INVALID_IKE_SPI = 4,
                  N_INVALID_MAJOR_VERSION = 5,
                  N_INVALID_SYNTAX = 7,
                  N_INVALID_MESSAGE_ID = 9,
                  N_INVALID_SPI = 11,
                  N_NO_PROPOSAL_CHOSEN = 14,
                  N_INVALID_KE_PAYLOAD = 17,
                  N_AUTHENTICATION_FAILED = 24,
                  N_SINGLE_PAIR_REQUIRED = 34,
                  N_NO_ADDITIONAL_SAS = 35,
                  N_INTERNAL_ADDRESS_FAILURE = 36,
                  N_FAILED_CP_REQUIRED = 37,
                  N_TS_UNACCEPTABLE = 38,
                  N_INVALID_SELECTORS = 39,
                  N_TEMPORARY_FAILURE = 43,
                  N_CHILD_SA_NOT_FOUND = 44,
                  N_INITIAL_CONTACT = 16384,
                  N_SET_WINDOW_SIZE = 16385,
                  N_ADDITIONAL_TS_POSSIBLE = 16386,
                  N_IPCOMP_SUPPORTED = 16387,
                  N_NAT_DETECTION_SOURCE_IP = 16388,
                  N_NAT_DETECTION_DESTINATION_IP = 16389,
                  N_COOKIE = 16390,
                  N_USE_TRANSPORT_MODE = 16391,
                  N_HTTP_CERT_LOOKUP_SUPPORTED = 16392,
                  N_REKEY_SA = 16393,
                  N_ESP_TFC_PADDING_NOT_SUPPORTED = 16394,
                  N_FRAGMENTATION_SUPPORTED = 16430,
                  N_CHILDLESS_IKEV2_SUPPORTED = 16418,
};

enum { TRANSFORM_ATTR_KEY_LENGTH = 14, PROPOSAL_MORE = 2, TRANSFORM_MORE = 3 };

#endif
