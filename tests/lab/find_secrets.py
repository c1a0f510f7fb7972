#!/usr/bin/env python3
"""Looks for key bytes where they must not be.

    find_secrets.py [--charon-log FILE]... [--hex FILE]... [--text FILE]... -- WHERE...

The canaries are the keys that strongSwan logs at level 4 (--charon-log), hex digits
(--hex) and passphrases (--text). Each WHERE, a file or a tree, is searched for each
canary, whole or its first 16 octets: raw, as hex in either case (also with spaces or
colons between the octets), and as base64 at any alignment. Exit code 0 nothing
found, 1 found something, 2 usage or no canary.
"""
import argparse
import base64
import os
import re
import sys

KEY_LINE = re.compile(rb"\[(?:CHD|IKE)\] ((?:encryption|integrity) \w+ key|SKEYSEED|S[Kk]_\w+(?: secret)?"
                      rb"|prf\(secret, keypad\)|secret|shared Diffie Hellman secret) => (\d+) bytes")
HEX_LINE = re.compile(rb"\[(?:CHD|IKE)\] +\d+: ((?:[0-9A-F]{2} )+)")
SHORTEST = 16


def charon_keys(path):
    """(name, octets) of each key that charon logged."""
    name = None
    wanted, got = 0, b""
    with open(path, "rb") as log:
        for line in log:
            start = KEY_LINE.search(line)
            if start:
                name, wanted, got = start.group(1).decode(), int(start.group(2)), b""
                continue
            octets = HEX_LINE.search(line)
            if not (name and octets):
                continue  # another thread's line, or none of ours
            got += bytes.fromhex(octets.group(1).decode())
            if len(got) >= wanted:
                yield name, got[:wanted]
                name = None


def spellings(octets):
    """Every way in which these octets might have been written."""
    digits = octets.hex()
    pairs = [digits[i:i + 2] for i in range(0, len(digits), 2)]
    for text in (digits, " ".join(pairs), ":".join(pairs)):
        yield text.encode()
        yield text.upper().encode()
    yield octets
    for shift in range(3):  # in base64, 3 octets share 4 letters
        inner = base64.b64encode(bytes(shift) + octets)[4 if shift else 0:]
        inner = inner[:len(inner) // 4 * 4 - 4]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")


def files(places):
    for place in places:
        if os.path.isdir(place):
            for folder, _, names in os.walk(place):
                yield from (os.path.join(folder, name) for name in names)
        else:
            yield place


def add_canary_options(parser):
    parser.add_argument("--charon-log", action="append", default=[])
    parser.add_argument("--hex", action="append", default=[])
    parser.add_argument("--text", action="append", default=[])


def canaries_of(options):
    """(name, octets) of each; ends the program where there is none."""
    canaries = []
    for path in options.charon_log:
        canaries += charon_keys(path)
    for path in options.hex:
        with open(path, encoding="ascii") as text:
            canaries += [("cluster key", bytes.fromhex(word)) for word in re.findall(r"\b[0-9a-f]{64}\b", text.read())]
    for path in options.text:
        with open(path, "rb") as text:
            canaries.append((f"PSK {os.path.basename(path)}", text.read().rstrip(b"\n")))
    canaries = [(name, octets) for name, octets in canaries if len(octets) >= SHORTEST]
    if not canaries:
        print("find_secrets: no canary", file=sys.stderr)
        sys.exit(2)
    return canaries


def needles_of(canaries):
    """What to look for: each canary, its beginning and its end, however written."""
    needles = {}
    for name, octets in canaries:
        for part in (octets, octets[:SHORTEST], octets[-SHORTEST:]):
            for spelling in spellings(part):
                needles.setdefault(spelling, name)
    return needles


def main():
    parser = argparse.ArgumentParser(description="look for key bytes where they must not be")
    add_canary_options(parser)
    parser.add_argument("where", nargs="+")
    options = parser.parse_args()
    canaries = canaries_of(options)
    needles = needles_of(canaries)
    found = searched = 0
    for path in files(options.where):
        with open(path, "rb") as file:
            data = file.read()
        searched += 1
        for needle, name in needles.items():
            if needle in data:
                print(f"{path}: {name} at octet {data.index(needle)}")
                found += 1
    names = sorted({name for name, _ in canaries})
    print(f"{len(canaries)} canaries ({', '.join(names)}) in {searched} files: {found} found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
