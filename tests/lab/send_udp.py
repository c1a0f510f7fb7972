#!/usr/bin/env python3
"""Sends numbered UDP datagrams at a steady pace.

    send_udp.py ADDRESS PORT COUNT PER_SECOND [SIZE] [SOURCE]
"""
import socket
import sys
import time

BURST_S = 0.002


def main():
    address, port, count, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    size = int(sys.argv[5]) if len(sys.argv) > 5 else 64
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if len(sys.argv) > 6:
        sock.bind((sys.argv[6], 0))
    began = time.monotonic()
    sent = refused = 0
    while sent < count:
        due = min(count, int((time.monotonic() - began) * rate) + 1)
        while sent < due:
            try:
                sock.sendto(sent.to_bytes(8, "big").ljust(size, b"x"), (address, port))
            except OSError:  # an ICMP error that came back, or a full queue
                refused += 1
            sent += 1
        time.sleep(BURST_S)
    print(f"{sent} sent, {refused} refused, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
