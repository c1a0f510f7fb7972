#!/usr/bin/env python3
"""Waits until all nodes of a lab have the same SA digest and see all others alive.

    agree.py --since MICROSECONDS --within SECONDS NETNS...

Each NETNS is a network namespace's file in which a node's HTTP interface listens on
127.0.0.1:8080. Rekeys go on meanwhile, so the nodes are asked within few milliseconds of each
other, over connections that stay. One digest alone is not enough: where nothing was negotiated
during a cut both sides have it at once, and do not wait for each other's acknowledgements yet.
Prints the milliseconds from --since (since 1970) to agreement, and how far they are when there
is none. Exit code 0 agreed, 1 not.
"""
import argparse
import concurrent.futures
import ctypes
import http.client
import json
import os
import sys
import time

CLONE_NEWNET = 0x40000000
EVERY_S = 0.02


class Node:
    """Asks one node; all its calls come from one thread, which lives in the namespace."""

    def __init__(self, netns):
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.pool.submit(self.enter, netns).result()
        self.http = None

    @staticmethod
    def enter(netns):
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")
        os.close(fd)

    def ask(self):
        return self.pool.submit(self.answer)

    def get(self, path):
        self.http.request("GET", path)
        return json.loads(self.http.getresponse().read())

    def answer(self):
        """(digest, slots that it holds dead), or None."""
        try:
            if self.http is None:
                self.http = http.client.HTTPConnection("127.0.0.1", 8080, timeout=1)
            digest = self.get("/v1/cluster")["sa_digest"]
            members = self.get("/v1/nodes?limit=1000")["items"]
            return digest, [m["slot"] for m in members if m["state"] == "dead"]
        except (OSError, http.client.HTTPException, ValueError):
            self.http = None
            return None


def agreed(answers):
    return None not in answers and len({digest for digest, _ in answers}) == 1 and not any(dead for _, dead in answers)


def told(answer):
    if answer is None:
        return "no answer"
    digest, dead = answer
    return digest[:8] + (f" (dead: {dead})" if dead else "")


def main():
    parser = argparse.ArgumentParser(description="wait until all nodes have one SA digest and see each other")
    parser.add_argument("--since", type=int, required=True)
    parser.add_argument("--within", type=float, required=True)
    parser.add_argument("netns", nargs="+")
    args = parser.parse_args()
    nodes = [Node(n) for n in args.netns]
    end = time.monotonic() + args.within
    while True:
        answers = [asked.result() for asked in [n.ask() for n in nodes]]
        took_ms = (time.time_ns() // 1000 - args.since) // 1000
        if agreed(answers):
            print(took_ms)
            return 0
        if time.monotonic() >= end:
            print(*map(told, answers), sep=", ", file=sys.stderr)
            return 1
        time.sleep(EVERY_S)


sys.exit(main())
