#!/usr/bin/env python3
"""Makes this network namespace forget every tracked connection, and with them every NAT mapping
(what `conntrack -F` does)."""
import socket
import struct
import sys

NETLINK_NETFILTER = 12
CT_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE; without a tuple: all
REQUEST, ACK = 1, 4


def main():
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    sock.bind((0, 0))
    sock.send(struct.pack("=IHHIIBBH", 20, CT_DELETE, REQUEST | ACK, 1, 0, socket.AF_UNSPEC, 0, 0))
    error = struct.unpack_from("=i", sock.recv(128), 16)[0]
    if error:
        sys.exit(f"flush_conntrack: error {-error}")


if __name__ == "__main__":
    main()
