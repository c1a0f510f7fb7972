#!/usr/bin/env python3
"""Catches ESP in UDP on an interface, sends it again from here, or invents it.

    hold_esp.py catch INTERFACE COUNT      prints the UDP payloads towards port 4500, in hex, a line each
    hold_esp.py send ADDRESS HEX...        from port 4500 of this namespace
    hold_esp.py invent ADDRESS SLOT COUNT PER_SECOND
                                           junk on SPIs that slot never made, each another one
"""
import os
import socket
import struct
import sys
import time

ETH_P_IP, ETH_BYTES, UDP, NATT_PORT = 0x0800, 14, 17, 4500


def esp_of(frame):
    """The UDP payload if this is ESP towards port 4500, else None."""
    ip = frame[ETH_BYTES:]
    header = (ip[0] & 15) * 4
    if ip[9] != UDP:
        return None
    _, to_port, length = struct.unpack_from("!HHH", ip, header)
    payload = ip[header + 8:header + length]
    if to_port != NATT_PORT or len(payload) < 8 or payload[:4] == bytes(4):
        return None
    return payload


def catch(interface, count):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
    sock.bind((interface, ETH_P_IP))
    print("catching", file=sys.stderr, flush=True)
    while count:
        frame, address = sock.recvfrom(65535)
        payload = esp_of(frame) if address[2] != socket.PACKET_OUTGOING else None
        if payload:
            print(payload.hex(), flush=True)
            count -= 1


def send(address, packets):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", NATT_PORT))
    for packet in packets:
        sock.sendto(bytes.fromhex(packet), (address, NATT_PORT))


def invent(address, slot, count, rate):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    began = time.monotonic()
    for i in range(count):
        spi = slot << 22 | 0x200000 | i  # a real one is random: unlikely to be among them
        sock.sendto(struct.pack("!II", spi, 1) + os.urandom(96), (address, NATT_PORT))
        time.sleep(max(0.0, began + (i + 1) / rate - time.monotonic()))


def main():
    if sys.argv[1] == "catch":
        catch(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "invent":
        invent(sys.argv[2], *map(int, sys.argv[3:6]))
    else:
        send(sys.argv[2], sys.argv[3:])


if __name__ == "__main__":
    main()
