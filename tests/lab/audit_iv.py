#!/usr/bin/env python3
"""Looks for a repeated IV under one key in a capture.

    audit_iv.py CAPTURE [--min N] [--iv-bytes 8|16] [--repeat-one]
    audit_iv.py --self-test

AES-GCM is lost when two packets under one key share an IV. Here the key of a packet
is known by its destination and SPI (ESP, native or in UDP port 4500) or by both IKE
SPIs and the direction (IKE's SK payload; a retransmission of the same bytes is no
repetition). Prints counts, and for packets from the cluster the slot, epoch and lane
written in their IVs. Exit code 0 fine, 1 a repetition or fewer than N ESP packets,
2 usage.

--repeat-one pretends that the capture holds its last ESP packet twice: proof on the
very capture that the audit can fail.
"""
import argparse
import collections
import struct
import sys

LINK_HEADERS = {1: (14, 12), 113: (16, 14), 276: (20, 0)}  # length, offset of EtherType
ANYCAST = bytes([192, 0, 2, 1])
IKE_SK, IKE_SKF = 46, 53


def frames(data):
    """Every captured frame of a pcap file, from its IP header on."""
    magic = data[:4]
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">",
             b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\x3c\x4d": ">"}.get(magic)
    if order is None:
        sys.exit("audit_iv: not a pcap file")
    link = struct.unpack(order + "I", data[20:24])[0] & 0xFFFF
    if link not in LINK_HEADERS:
        sys.exit(f"audit_iv: link type {link} is not known")
    skip, ethertype = LINK_HEADERS[link]
    record = struct.Struct(order + "IIII")
    at, end = 24, len(data)
    while at + 16 <= end:
        captured = record.unpack_from(data, at)[2]
        at += 16
        if at + captured > end:
            break  # a capture cut short ends here
        if data[at + ethertype:at + ethertype + 2] == b"\x08\x00":
            yield data[at + skip:at + captured]
        at += captured


class Audit:
    def __init__(self, iv_bytes):
        self.iv_bytes = iv_bytes
        self.seen = set()
        self.ike = {}
        self.esp_packets = 0
        self.ike_messages = 0
        self.repeated = []
        self.senders = collections.Counter()
        self.last = None

    def packet(self, ip):
        header = (ip[0] & 15) * 4
        if struct.unpack_from(">H", ip, 6)[0] & 0x1FFF:
            return  # a later fragment holds no header of interest
        protocol, body = ip[9], ip[header:]
        if protocol == 50:
            self.esp(ip, body)
        elif protocol == 17 and len(body) >= 12:
            sport, dport = struct.unpack_from(">HH", body)
            if 4500 in (sport, dport):
                if body[8:12] != b"\0\0\0\0":
                    self.esp(ip, body[8:])
                else:
                    self.ike_message(ip, body[12:])
            elif 500 in (sport, dport):
                self.ike_message(ip, body[8:])

    def esp(self, ip, esp):
        if len(esp) < 8 + self.iv_bytes:
            return  # a NAT keepalive
        iv = bytes(esp[8:8 + self.iv_bytes])
        key = (bytes(ip[16:20]), bytes(esp[:4]), iv)
        self.esp_packets += 1
        self.last = key
        if ip[12:16] == ANYCAST and self.iv_bytes == 8:
            word = int.from_bytes(iv, "big")
            self.senders[(word >> 54, word >> 36 & 0x3FFFF, word >> 32 & 15)] += 1
        self.note(key)

    def note(self, key):
        if key in self.seen:
            self.repeated.append(f"ESP to {'.'.join(map(str, key[0]))} SPI 0x{key[1].hex()} IV {key[2].hex()}")
        self.seen.add(key)

    def ike_message(self, ip, message):
        if len(message) < 44 or message[16] not in (IKE_SK, IKE_SKF):
            return
        start = 32 if message[16] == IKE_SK else 36
        key = (bytes(ip[12:16]), bytes(message[:16]), bytes(message[start:start + 8]))
        self.ike_messages += 1
        if self.ike.setdefault(key, bytes(message)) != bytes(message):
            self.repeated.append(f"IKE from {'.'.join(map(str, key[0]))} SPIs {key[1].hex()} IV {key[2].hex()}")

    def report(self, minimum):
        print(f"{self.esp_packets} ESP packets, {self.ike_messages} encrypted IKE messages")
        for (slot, epoch, lane), count in sorted(self.senders.items()):
            print(f"slot {slot} epoch {epoch} lane {lane}: {count} packets")
        for what in self.repeated[:10]:
            print(f"REPEATED: {what}")
        if self.repeated:
            print(f"{len(self.repeated)} repetitions")
            return 1
        if self.esp_packets < minimum:
            print(f"too few packets: at least {minimum} are asked for")
            return 1
        print("no repetition")
        return 0


def self_test():
    """The audit finds a repetition, and finds none where there is none."""
    def ip_packet(protocol, payload, src=ANYCAST):
        return struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0,
                           src, bytes([198, 51, 100, 11])) + payload

    def esp(spi, iv):
        return struct.pack(">II", spi, 1) + iv.to_bytes(8, "big") + bytes(24)

    def udp(payload):
        return struct.pack(">HHHH", 4500, 4500, 8 + len(payload), 0) + payload

    def ike(iv, tail):
        return bytes(4) + bytes(16) + bytes([IKE_SK]) + bytes(15) + iv.to_bytes(8, "big") + tail

    def verdict(*packets):
        pcap = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 276)
        for packet in packets:
            frame = b"\x08\x00" + bytes(18) + packet
            pcap += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
        audit = Audit(8)
        for frame in frames(pcap):
            audit.packet(frame)
        return len(audit.repeated), audit.esp_packets

    native = ip_packet(50, esp(0x1000, 7))
    assert verdict(native, ip_packet(50, esp(0x1000, 8))) == (0, 2)
    assert verdict(native, ip_packet(50, esp(0x1001, 7))) == (0, 2)
    assert verdict(native, native) == (1, 2)
    assert verdict(native, ip_packet(17, udp(esp(0x1000, 7)))) == (1, 2)
    first = ip_packet(17, udp(ike(5, b"same" * 4)))
    assert verdict(first, first) == (0, 0), "a retransmission"
    assert verdict(first, ip_packet(17, udp(ike(5, b"else" * 4)))) == (1, 0)
    print("self-test passed")


def main():
    parser = argparse.ArgumentParser(description="find a repeated IV under one key in a capture")
    parser.add_argument("capture", nargs="?")
    parser.add_argument("--min", type=int, default=0, help="fewest ESP packets wanted")
    parser.add_argument("--iv-bytes", type=int, choices=(8, 16), default=8)
    parser.add_argument("--repeat-one", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        return 0
    if not options.capture:
        parser.error("which capture?")
    audit = Audit(options.iv_bytes)
    with open(options.capture, "rb") as capture:
        for frame in frames(capture.read()):
            audit.packet(frame)
    if options.repeat_one and audit.last:
        audit.note(audit.last)
    return audit.report(options.min)


if __name__ == "__main__":
    sys.exit(main())
