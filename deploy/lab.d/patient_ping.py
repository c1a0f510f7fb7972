#!/usr/bin/env python3
"""ICMP echo requests at a steady pace, and patience with the answers.

ping(8) leaves two round trips after the last request, which is milliseconds here: an
answer that a busy machine delays counts as lost. This one waits --wait seconds for it.
SIGINT ends the sending early. Prints "sent received". With --lost FILE each request without
an answer leaves a line there: when it was sent, in microseconds since 1970, and its number.
"""
import argparse
import os
import select
import signal
import socket
import struct
import sys
import time

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
ECHO_REPLY, ECHO_REQUEST = 0, 8


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(ident: int, seq: int, size: int) -> bytes:
    data = bytes(i & 0xFF for i in range(size & ~1))
    head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, ident, seq)
    return struct.pack("!BBHHH", ECHO_REQUEST, 0, checksum(head + data), ident, seq) + data


def replies(sock: socket.socket, ident: int, until: float) -> set[int]:
    """The sequence numbers answered until then."""
    seen = set()
    while select.select([sock], [], [], max(0.0, until - time.monotonic()))[0]:
        packet = sock.recv(65535)
        kind, _, _, their_ident, seq = struct.unpack_from("!BBHHH", packet, (packet[0] & 15) * 4)
        if kind == ECHO_REPLY and their_ident == ident:
            seen.add(seq)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--source", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--interval", type=float, default=0.01)
    parser.add_argument("--size", type=int, default=56, help="octets after the ICMP header, even")
    parser.add_argument("--df", action="store_true", help="not to be fragmented")
    parser.add_argument("--wait", type=float, default=3.0)
    parser.add_argument("--lost", help="file for the requests that were not answered")
    args = parser.parse_args()

    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.bind((args.source, 0))
    if args.df:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    ident = os.getpid() & 0xFFFF
    answered = set()
    sent_us = []
    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))
    due = time.monotonic()
    sent = 0
    for seq in range(args.count):
        if stop:
            break
        sent += 1
        sent_us.append(time.time_ns() // 1000)
        sock.sendto(echo_request(ident, seq, args.size), (args.target, 0))
        due += args.interval
        answered |= replies(sock, ident, due)
    end = time.monotonic() + args.wait
    while len(answered) < sent and time.monotonic() < end:
        answered |= replies(sock, ident, min(end, time.monotonic() + 0.02))
    if args.lost:
        with open(args.lost, "w", encoding="ascii") as lost:
            for seq in sorted(set(range(sent)) - answered):
                print(sent_us[seq], seq, file=lost)
    if len(answered) < sent:
        lost = sorted(set(range(sent)) - answered)
        print(f"no answer to {len(lost)} requests, first", *lost[:10], file=sys.stderr)
    print(sent, len(answered))


main()
