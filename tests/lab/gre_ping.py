#!/usr/bin/env python3
"""Pings through a GRE tunnel without a GRE device; prints how many good replies came.

A reply is good if it comes as GRE from the outer destination, with the same key and
without one if none was sent, holding the ICMP echo reply to one of our requests.
"""
import argparse
import logging
import os
import select
import socket
import struct
import sys
import time

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.layers.inet import ICMP, IP  # noqa: E402
from scapy.layers.l2 import GRE  # noqa: E402

RESERVED_FLAG = 0x4000  # the routing bit of RFC 1701, which RFC 2784 wants refused


def request(options, number):
    inner = IP(src=options.inner_src, dst=options.inner_dst) / ICMP(id=options.id, seq=number) / b"anysa"
    checked = options.checksum or options.bad_checksum
    gre = GRE(proto=0x0800, chksum_present=int(checked), key_present=int(options.key is not None), key=options.key)
    packet = bytearray(bytes(gre / inner))
    if options.bad_checksum:
        packet[4] ^= 0xFF
    if options.flag:
        struct.pack_into(">H", packet, 0, struct.unpack_from(">H", packet)[0] | RESERVED_FLAG)
    return bytes(packet)


def good_reply(options, data):
    """The number of the request that this packet answers, or None."""
    outer = IP(data)
    if outer.src != options.outer_dst or outer.dst != options.outer_src or GRE not in outer:
        return None
    gre = outer[GRE]
    if bool(gre.key_present) != (options.key is not None) or (gre.key_present and gre.key != options.key):
        return None
    if ICMP not in gre or gre[IP].src != options.inner_dst or gre[IP].dst != options.inner_src:
        return None
    icmp = gre[ICMP]
    return icmp.seq if icmp.type == 0 and icmp.id == options.id else None


def collect(options, sock, answered, until):
    while len(answered) < options.count:
        left = until - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            return
        number = good_reply(options, sock.recv(65535))
        if number is not None:
            answered.add(number)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("outer-src", "outer-dst", "inner-src", "inner-dst"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--key", type=int)
    parser.add_argument("--checksum", action="store_true")
    parser.add_argument("--bad-checksum", action="store_true")
    parser.add_argument("--flag", action="store_true", help="set a flag that must be refused")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds for the last replies")
    options = parser.parse_args()
    options.id = os.getpid() & 0xFFFF

    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE)
    sock.bind((options.outer_src, 0))
    answered = set()
    for number in range(1, options.count + 1):
        sock.sendto(request(options, number), (options.outer_dst, 0))
        collect(options, sock, answered, time.monotonic() + 0.005)
    collect(options, sock, answered, time.monotonic() + options.wait)
    print(len(answered))


if __name__ == "__main__":
    sys.exit(main())
