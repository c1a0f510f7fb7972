#!/usr/bin/env python3
"""Looks for key bytes in the memory of a running process.

    find_in_memory.py [--charon-log FILE]... [--hex FILE]... [--text FILE]... [--show] PID...

The canaries are those of find_secrets.py. A page run that is both locked (VmFlags "lo") and
kept out of dumps ("dd") is where keys live; anywhere else each of them is a find. That is
also what a core file would hold, were there one: the kernel leaves "dd" runs out.
Exit code 0: keys stand where they belong and nowhere else; 1: a key stands elsewhere, or
none was found at all (then the search proves nothing); 2: usage.
"""
import argparse
import array
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import find_secrets  # noqa: E402

RUN = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)")
PAGE = os.sysconf("SC_PAGE_SIZE")
THERE = 3 << 62  # of a page map's entry: in memory or swapped


def runs(pid):
    """(begin, end, name, flags) of each writable page run."""
    run = None
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as smaps:
        for line in smaps:
            head = RUN.fullmatch(line.rstrip("\n"))
            if head:
                run = head
            elif line.startswith("VmFlags:") and run and run[3].startswith("rw"):
                yield int(run[1], 16), int(run[2], 16), run[4], line.split()[1:]


def pieces(pid, begin, end):
    """(address, octets) of what was ever written there."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        entries = array.array("Q", os.pread(pagemap.fileno(), (end - begin) // PAGE * 8, begin // PAGE * 8))
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        at = 0
        while at < len(entries):
            first = at
            while at < len(entries) and entries[at] & THERE:
                at += 1
            if at > first:
                yield begin + first * PAGE, os.pread(mem.fileno(), (at - first) * PAGE, begin + first * PAGE)
            at += 1


def needles_of(canaries):
    """Beginning and end of each key, as octets and as hex; more spellings would take minutes."""
    needles = {}
    for name, octets in canaries:
        for part in (octets[:find_secrets.SHORTEST], octets[-find_secrets.SHORTEST:]):
            needles.setdefault(part, name)
            needles.setdefault(part.hex().encode(), name)
    return needles


def search(pid, needles, show):
    """Finds outside custody, and the canaries that were seen inside."""
    outside, inside = 0, set()
    for begin, end, name, flags in runs(pid):
        kept = "dd" in flags and "lo" in flags
        for place, data in pieces(pid, begin, end):
            for needle, canary in needles.items():
                at = data.find(needle)
                if at >= 0 and kept:
                    inside.add(canary)
                    continue
                while at >= 0:
                    outside += 1
                    print(f"{pid}: {canary} at 0x{place + at:x} in {name or 'anonymous memory'} ({' '.join(flags)})")
                    if show:
                        print("   ", data[max(at - 64, 0):at].hex(), "<", data[at:at + 16].hex(), ">",
                              data[at + 16:at + 96].hex())
                    at = data.find(needle, at + 1)
    return outside, inside


def main():
    parser = argparse.ArgumentParser(description="look for key bytes in the memory of processes")
    find_secrets.add_canary_options(parser)
    parser.add_argument("--show", action="store_true", help="what stands around each find")
    parser.add_argument("pid", nargs="+", type=int)
    options = parser.parse_args()
    needles = needles_of(find_secrets.canaries_of(options))
    found, known = 0, set()
    for pid in options.pid:
        outside, inside = search(pid, needles, options.show)
        found += outside
        known |= inside
    print(f"{len(options.pid)} processes: in custody {', '.join(sorted(known)) or 'nothing'}; elsewhere {found}")
    return 0 if known and not found else 1


if __name__ == "__main__":
    sys.exit(main())
