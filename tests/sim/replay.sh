#!/usr/bin/env bash
# The same seed tells the same history: alone, again, and among others.
#
#   tests/sim/replay.sh SIM
set -euo pipefail
sim=$1
all=$("$sim" --seeds 1-20 --hash | grep -E '^[0-9]+ [0-9a-f]{16}$')
[ "$(wc -l <<<"$all")" = 20 ]
[ "$(cut -d' ' -f2 <<<"$all" | sort -u | wc -l)" = 20 ] # and other seeds others
for seed in 1 7 20; do
    for _ in 1 2; do
        alone=$("$sim" --seed "$seed" --hash | grep -E '^[0-9]+ [0-9a-f]{16}$')
        grep -qxF "$alone" <<<"$all" || { echo "seed $seed is not told the same way twice" >&2; exit 1; }
    done
done
