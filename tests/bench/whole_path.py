"""Joins what the router noted with what the nodes show: whole_path.py HANDSHAKES INSTALLED..."""
import datetime
import sys


def percentile(values, p):
    return sorted(values)[int(p * (len(values) - 1) + 0.5)]


def microseconds(text):
    when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (when - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)


def main():
    sent, took, dh = {}, {}, 0
    with open(sys.argv[1], encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[0] == "dh":
                dh = int(fields[1])
            else:
                sent[fields[0]], took[fields[0]] = int(fields[1]), int(fields[2])
    installed = {spi: [] for spi in sent}
    for path in sys.argv[2:]:
        with open(path, encoding="ascii") as file:
            for spi, when in (line.split() for line in file):
                if spi in installed:
                    installed[spi].append(microseconds(when) - sent[spi])
    if not sent or any(len(times) != len(sys.argv) - 2 for times in installed.values()):
        print("some Child SAs are not on every node", file=sys.stderr)
        return 2
    rows = {"IKE_AUTH until installed at the owner": [min(t) for t in installed.values()],
            "IKE_AUTH until installed on all": [max(t) for t in installed.values()],
            "IKE_AUTH until its answer": list(took.values())}
    print(f"{len(sent)} handshakes, {len(sys.argv) - 2} nodes; the shared secret alone takes {dh / 1000:.3f} ms")
    print(f"  {'ms':40} {'p50':>7} {'p99':>7} {'max':>7}")
    for what, times in rows.items():
        print(f"  {what:40} {percentile(times, 0.5) / 1000:7.3f} {percentile(times, 0.99) / 1000:7.3f} {max(times) / 1000:7.3f}")
    met = percentile(rows["IKE_AUTH until installed on all"], 0.99) <= 5000
    print(f"installed on all, Diffie-Hellman included, p99 <= 5 ms: {'PASS' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
