#!/usr/bin/env python3
"""Somebody on the mesh's network, without the cluster key.

    mesh_inject.py extract PCAP published HOST:PORT FILE        what a member published
    mesh_inject.py extract PCAP asked HOST:PORT CLIENT FILE     what a member asked another
    mesh_inject.py extract PCAP told HOST:PORT CLIENT FILE      what it said to that one alone
    mesh_inject.py publish HOST:PORT SUBSCRIBERS [--forge] [--rounds N] FILE
    mesh_inject.py ask HOST:PORT [--forge] FILE
    mesh_inject.py tell HOST:PORT [--forge] FILE

`publish` stands where a member stood, waits for its subscribers and sends them the recorded
frames; `ask` sends recorded requests and counts answers, `tell` recorded notes, whose answers are empty. With --forge each frame becomes many
that nobody wrote: cut, lengthened, every header field changed, bits turned over.
Speaks nng's TCP mapping itself: 8 octets of greeting, then messages with a 64-bit length. What is
published has two more octets before the frame: whom it is for; what is asked or told has one: which
of the two it is (sync/transport_nng.c).
"""
import argparse
import os
import socket
import struct
import sys
import time

PUB, SUB, REQ, REP = 0x20, 0x21, 0x30, 0x31
HEADER, TAG = 42, 16  # sync/frame.h
FRAME_MAX = 128 * 1024
TO_ALL = b"\xff\xff"
KINDS = {"asked": b"\x01", "told": b"\x02"}
VERSION, CHANNEL, SLOT, KEY_ID, CLUSTER, INCARNATION, NUMBER = 0, 1, 2, 6, 10, 18, 34


def greeting(protocol):
    return b"\0SP\0" + struct.pack(">HH", protocol, 0)


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


# ---------------------------------------------------------------- recordings

def tcp_segments(path):
    """(source, destination, sequence number, octets, is SYN) of a capture on Ethernet."""
    with open(path, "rb") as file:
        file.read(24)
        while len(head := file.read(16)) == 16:
            packet = file.read(struct.unpack("<IIII", head)[2])
            if packet[12:14] != b"\x08\x00" or packet[23] != 6:
                continue
            ip = packet[14:14 + struct.unpack(">H", packet[16:18])[0]]
            tcp = ip[(ip[0] & 15) * 4:]
            sport, dport, seq = struct.unpack(">HHI", tcp[:8])
            yield ((socket.inet_ntoa(ip[12:16]), sport), (socket.inet_ntoa(ip[16:20]), dport), seq,
                   tcp[(tcp[12] >> 4) * 4:], bool(tcp[13] & 2))


def streams(path, wanted):
    """The octets of each direction of a connection that began in the capture."""
    flows = {}
    for source, target, seq, data, syn in tcp_segments(path):
        if not wanted(source, target):
            continue
        if syn:
            flows[source, target] = (seq + 1, {})
        elif (source, target) in flows:
            first, pieces = flows[source, target]
            pieces[(seq - first) & 0xffffffff] = max(data, pieces.get((seq - first) & 0xffffffff, b""), key=len)
    for _, pieces in flows.values():
        stream = b""
        for at in sorted(pieces):
            if at > len(stream):
                break
            stream += pieces[at][len(stream) - at:]
        yield stream


def messages(stream):
    at = 8  # after the greeting
    while at + 8 <= len(stream):
        size = struct.unpack(">Q", stream[at:at + 8])[0]
        if at + 8 + size > len(stream):
            return
        yield stream[at + 8:at + 8 + size]
        at += 8 + size


def extract(options):
    server = endpoint(options.server)
    if options.what == "published":
        found = streams(options.pcap, lambda source, target: source == server)
        frames = max(([m[2:] for m in messages(s)] for s in found), key=len, default=[])
    else:
        found = streams(options.pcap, lambda source, target: target == server and source[0] == options.client)
        kind = KINDS[options.what]
        frames = [m[5:] for s in found for m in messages(s) if m[4:5] == kind]  # without the request id
    with open(options.file, "wb") as out:
        for frame in frames:
            out.write(struct.pack(">I", len(frame)) + frame)
    print(len(frames))


def recorded(path):
    with open(path, "rb") as file:
        while len(size := file.read(4)) == 4:
            yield file.read(struct.unpack(">I", size)[0])


# ---------------------------------------------------------------- forgeries

def changed(frame, at, octets):
    return frame[:at] + octets + frame[at + len(octets):]


def forgeries(frame):
    """What becomes of one frame; the names are the reasons for which they must be refused."""
    for cut in (0, 1, HEADER - 1, HEADER, HEADER + TAG - 1):
        yield "form", frame[:cut]
    yield "form", frame + bytes(FRAME_MAX)
    yield "form", b"\x01" + os.urandom(19)
    yield "version", b"\x02" + os.urandom(19)
    yield "form", changed(frame, CHANNEL, b"\x09")
    yield "version", changed(frame, VERSION, b"\x02")
    yield "version", b"\xff" * len(frame)
    yield "cluster", changed(frame, CLUSTER, os.urandom(8))
    yield "key", changed(frame, KEY_ID, os.urandom(4))
    yield "sender", changed(frame, SLOT, b"\x03\xe7")
    yield "sender", changed(frame, SLOT, b"\xff\xff")
    yield "auth", changed(frame, INCARNATION, os.urandom(16))
    yield "auth", changed(frame, NUMBER, b"\x00\x00\x7f" + os.urandom(5))
    yield "auth", changed(frame, INCARNATION, os.urandom(16))[:HEADER + TAG]
    yield "auth", changed(frame, INCARNATION, os.urandom(16)) + b"\0"
    for at in (HEADER, len(frame) // 2, len(frame) - 1):
        yield "auth", changed(changed(frame, INCARNATION, os.urandom(16)), at, bytes([frame[at] ^ 1]))


def letters(options):
    """The frames to send, and how many of each reason there are."""
    frames = list(recorded(options.file))
    count = {}
    if not options.forge:
        return frames * options.rounds, {"recorded": len(frames) * options.rounds}
    out = []
    for _ in range(options.rounds):
        for frame in frames:
            for reason, forged in forgeries(frame):
                out.append(forged)
                count[reason] = count.get(reason, 0) + 1
    return out, count


# ---------------------------------------------------------------- on the wire

def exactly(connection, n):
    data = b""
    while len(data) < n:
        piece = connection.recv(n - len(data))
        if not piece:
            raise ConnectionError("closed")
        data += piece
    return data


def publish(options):
    out, count = letters(options)
    listener = socket.create_server(endpoint(options.at))
    listener.settimeout(15)
    subscribers = []
    while len(subscribers) < options.subscribers:
        connection, _ = listener.accept()
        connection.settimeout(15)
        try:
            connection.sendall(greeting(PUB))
            exactly(connection, 8)
        except ConnectionError:  # its dialer has just been replaced: it comes again
            continue
        subscribers.append(connection)
    for number, frame in enumerate(out):
        for connection in subscribers:
            connection.sendall(struct.pack(">Q", len(TO_ALL + frame)) + TO_ALL + frame)
        if number % 16 == 15:  # slower than the receiver's queue fills
            time.sleep(0.005)
    time.sleep(1)
    print(" ".join(f"{reason}={n}" for reason, n in sorted(count.items())))


def ask(options):
    out, count = letters(options)
    answers = 0
    for at, frame in enumerate(out):
        with socket.create_connection(endpoint(options.at), timeout=5) as connection:
            connection.sendall(greeting(REQ))
            exactly(connection, 8)
            connection.sendall(struct.pack(">QI", len(frame) + 5, 0x80000001 + at) + options.kind + frame)
            connection.settimeout(0.1)
            try:
                size = struct.unpack(">Q", exactly(connection, 8))[0]
                answers += size > 4  # the request's id alone is no answer
            except (TimeoutError, ConnectionError):
                pass
    print(" ".join(f"{reason}={n}" for reason, n in sorted(count.items())), f"answers={answers}")


def main():
    parser = argparse.ArgumentParser(description="inject frames into the mesh")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("extract")
    verb.add_argument("pcap")
    verb.add_argument("what", choices=["published", "asked", "told"])
    verb.add_argument("server")
    verb.add_argument("client", nargs="?")
    verb.add_argument("file")
    verb.set_defaults(run=extract)
    for name, run in (("publish", publish), ("ask", ask), ("tell", ask)):
        verb = verbs.add_parser(name)
        verb.add_argument("at")
        if name == "publish":
            verb.add_argument("subscribers", type=int)
        verb.add_argument("--forge", action="store_true")
        verb.add_argument("--rounds", type=int, default=1)
        verb.add_argument("file")
        verb.set_defaults(run=run, kind=KINDS["told" if name == "tell" else "asked"])
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(main())
