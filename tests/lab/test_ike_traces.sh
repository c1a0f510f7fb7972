#!/usr/bin/env bash
# Wireshark opens the recorded negotiations of tests/vectors/ike by our keys: every SK payload of
# ours and of strongSwan's must decrypt and have a right checksum. RFC 5282 (AES-GCM in IKEv2) has
# no vectors of its own; this and strongSwan are the two other implementations that agree with us.
#
#   ANYSA_BIN   directory of anysad; its build must have the tests
set -euo pipefail

bin=${ANYSA_BIN:-$(dirname "$0")/../../build/dev/node}
replay=$bin/../tests/vectors/ike/test_vectors_ike
command -v tshark text2pcap >/dev/null || { echo "SKIP ike_traces: no tshark"; exit 77; }
[ -x "$replay" ] || { echo "SKIP ike_traces: $replay is not built"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/dump" "$work/config/wireshark"

ANYSA_REPLAY_DUMP=$work/dump "$replay" >"$work/replay.log" 2>&1 || { tail "$work/replay.log"; exit 1; }
cat "$work"/dump/*.keys >"$work/config/wireshark/ikev2_decryption_table"

# count PATTERN FILE
count() { grep -cE "$1" "$2" || true; }

scenes=0 messages=0
for hex in "$work"/dump/*.hex; do
    scene=$(basename "$hex" .hex)
    text2pcap -q -u 500,500 "$hex" "$work/$scene.pcap" >/dev/null 2>&1
    XDG_CONFIG_HOME=$work/config tshark -r "$work/$scene.pcap" -V >"$work/$scene.txt" 2>/dev/null
    # the first payload of an IKE message is its 17th octet; SK is 46, SKF 53
    want=$(count '^000000( [0-9a-f]{2}){16} (2e|35) ' "$hex")
    opened=$(count 'Decrypted Data' "$work/$scene.txt")
    right=$(count 'Integrity Checksum Data: .*\[correct\]' "$work/$scene.txt")
    if [ "$opened" -ne "$want" ] || [ "$right" -ne "$want" ] || grep -q 'Malformed' "$work/$scene.txt"; then
        echo "FAIL ike_traces: $scene: $want protected messages, tshark opened $opened, $right of them right"
        exit 1
    fi
    scenes=$((scenes + 1)) messages=$((messages + want))
done
if [ "$scenes" -lt 30 ] || [ "$messages" -lt 60 ]; then
    echo "FAIL ike_traces: only $scenes scenes, $messages messages"
    exit 1
fi
echo "PASS ike_traces: tshark opened all $messages protected messages of $scenes scenes"
