#!/usr/bin/env bash
# Somebody stands on the mesh's network without the cluster key. What a member said before is
# played to the others from its own address, after it died and after they were restarted; it is
# forged in every way; nodes with another key, another key id and another cluster's name come
# up. All of it is refused, each frame counted under its reason; nothing is answered, no SA
# changes, no memory grows, nobody crashes, and the member with the stale key is named.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

INJECT="$TESTS_LAB/mesh_inject.py"

refused() { node_metric "$1" "anysa_frames_refused_total{reason=\"$2\"}"; }
all_refused() { node_get "$1" /metrics | awk '/^anysa_frames_refused_total/ { n += $2 } END { print n }'; }
# sas NODE: what it knows; owners and message IDs may go on meanwhile
sas() { { node_list "$1" /v1/child-sas | jq -r .spi_in; node_list "$1" /v1/ike-sas | jq -r .spi_r; } | sort | paste -sd' '; }
member() { node_get "$1" /v1/nodes | jq -r ".items[] | select(.slot == $2) | .$3"; }
is_dead() { [ "$(member "$1" "$2" state)" = dead ]; }
resident_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$(pid_of "n$1")/status"; }

# as_n3 ARGS...: plays to n1 and n2 from n3's address; prints what it sent
as_n3() { in_ns n3 "$PYTHON" "$INJECT" publish 10.99.0.3:7800 2 "$@"; }

# field NAME "a=1 b=2"
field() { tr ' ' '\n' <<<"$2" | sed -n "s/^$1=//p"; }

lacks_an_epoch() { [ "$(node_not_ready_because "$1")" = '["no_epoch"]' ]; }

# unmoved WHAT: n1 and n2 know what they knew before, and n3 is dead to them
unmoved() {
    local i
    for i in 1 2; do
        equal "$1: n$i: SAs" "$KNOWN" "$(sas "$i")"
        equal "$1: n$i: n3" dead "$(member "$i" 3 state)"
    done
}

test_begin injection 200
lab_up 3 1 no
net_spray on
check "c1: tunnel" customer_up 1
# n3 misses something, so that it has to ask for it
net_withdraw 3
node_kill 3
check "c1: rekey without n3" router_rekeys 1 child
capture="$STATE/mesh.pcap"
spawn mesh "$STATE/mesh.log" nsenter --net="$(ns_path mesh)" -- tcpdump -i br0 -n --immediate-mode -Z root -w "$capture" tcp
wait_until 5 grep -q 'listening on' "$STATE/mesh.log" || fail "tcpdump did not start"
node_start 3
node_wait_ready 3
net_announce 3
for round in 1 2 3; do check "c1: rekey $round" router_rekeys 1 child; done
check "c1: IKE rekey" router_rekeys 1 ike
capture_stop mesh
frames=$("$PYTHON" "$INJECT" extract "$capture" published 10.99.0.3:7800 "$STATE/published")
between "recorded of n3" 20 100000 "$frames"
for answerer in 1 2; do
    asked=$("$PYTHON" "$INJECT" extract "$capture" asked "10.99.0.$answerer:7801" 10.99.0.3 "$STATE/asked")
    [ "$asked" -eq 0 ] || break
done
between "recorded requests of n3" 1 100000 "$asked"
for hearer in 1 2; do
    told=$("$PYTHON" "$INJECT" extract "$capture" told "10.99.0.$hearer:7801" 10.99.0.3 "$STATE/told")
    [ "$told" -eq 0 ] || break
done
between "recorded notes of n3" 1 100000 "$told"
say "recorded: $frames frames of n3, $asked requests to n$answerer, $told notes to n$hearer"
head -c 20000 "$STATE/published" >"$STATE/few"

net_withdraw 3
node_kill 3
for i in 1 2; do eventually "n$i: n3 is dead" 5 is_dead "$i" 3; done
KNOWN=$(sas 1)
equal "n2 agrees" "$KNOWN" "$(sas 2)"

more_refused() { [ "$(refused "$1" "$2")" -ge "$3" ]; }
# refused_of WHAT NODE REASON BEFORE FRAMES: nine tenths of them at least, once they are through
refused_of() {
    wait_until 3 more_refused "$2" "$3" $(($4 + $5 * 9 / 10)) || true
    between "$1" $(($4 + $5 * 9 / 10)) $(($4 + $5)) "$(refused "$2" "$3")"
}

# Played again, to those that heard it the first time.
before=$(refused 1 replay)
as_n3 "$STATE/published" >/dev/null
refused_of "n1: refused as replays" 1 replay "$before" "$frames"
unmoved "replay"
before=$(refused "$answerer" replay)
answers=$(field answers "$(in_ns n3 "$PYTHON" "$INJECT" ask "10.99.0.$answerer:7801" "$STATE/asked")")
equal "answers to recorded requests" 0 "$answers"
equal "n$answerer: requests refused as replays" "$((before + asked))" "$(refused "$answerer" replay)"

before=$(refused "$hearer" replay)
answers=$(field answers "$(in_ns n3 "$PYTHON" "$INJECT" tell "10.99.0.$hearer:7801" "$STATE/told")")
equal "answers with something in them to recorded notes" 0 "$answers"
refused_of "n$hearer: notes refused as replays" "$hearer" replay "$before" "$told"
unmoved "replayed notes"

# Forged, each kind counted under its name.
for reason in form version cluster key sender auth; do declare "b_$reason=$(refused 1 $reason)"; done
sent=$(as_n3 --forge "$STATE/few")
say "forged: $sent"
for reason in form version cluster key sender auth; do
    b=b_$reason
    n=$(field $reason "$sent")
    refused_of "n1: forged, refused: $reason" 1 "$reason" "${!b}" "$n"
done
unmoved "forged"
equal "n1: the key id of n3" unknown "$(member 1 3 key_state)"
answers=$(field answers "$(in_ns n3 "$PYTHON" "$INJECT" ask "10.99.0.$answerer:7801" --forge "$STATE/asked")")
equal "answers to forged requests" 0 "$answers"

before=$(all_refused "$hearer")
answers=$(field answers "$(in_ns n3 "$PYTHON" "$INJECT" tell "10.99.0.$hearer:7801" --forge "$STATE/told")")
equal "answers with something in them to forged notes" 0 "$answers"
between "n$hearer: forged notes refused" 1 1000000 $(($(all_refused "$hearer") - before))
unmoved "forged notes"

# A hundred times as much takes no more memory.
warm=$(resident_kib 1)
before=$(all_refused 1)
as_n3 --forge --rounds 20 "$STATE/few" >/dev/null
flood=$(($(all_refused 1) - before))
between "n1: refused in the flood" 2000 10000000 "$flood"
between "n1: KiB grown by $flood frames" -100000 2048 "$(($(resident_kib 1) - warm))"
say "flood of $flood frames: $(($(resident_kib 1) - warm)) KiB"
unmoved "flood"

# Played to a node that was born later: it believes nobody who does not name it.
net_withdraw 1
node_kill 1
node_start 1
eventually "n1, reborn: all it lacks is an epoch, which n3 would have to grant" 5 lacks_an_epoch 1
net_announce 1
before=$(refused 1 unproven)
as_n3 "$STATE/published" >/dev/null
refused_of "n1, reborn: refused as unproven" 1 unproven "$before" "$frames"
unmoved "reborn"

# Played after the member itself lived again: its former life is over.
node_start 3
node_wait_ready 3
node_kill 3
for i in 1 2; do eventually "n$i: n3 is dead again" 5 is_dead "$i" 3; done
before=$(refused 2 retired)
as_n3 "$STATE/published" >/dev/null
refused_of "n2: refused as retired" 2 retired "$before" "$frames"
unmoved "former life"

# Nodes that hold another key, or are of another cluster.
stranger() { # REASON SED-EXPRESSION FILE
    local before
    cp "$(node_dir 3)/$3" "$STATE/kept"
    sed -i "$2" "$(node_dir 3)/$3"
    rm -rf "$(node_dir 3)/state"
    before=$(refused 1 "$1")
    node_start 3
    eventually "n1: frames refused: $1" 5 more_refused 1 "$1" $((before + 10))
    equal "a stranger's view: n1" dead "$(member 3 1 state)"
    [ "$1" != key ] || equal "n1: the key id of n3 is told" "7 unknown" "$(member 1 3 key_id) $(member 1 3 key_state)"
    unmoved "stranger, $1"
    node_kill 3
    cp "$STATE/kept" "$(node_dir 3)/$3"
}
stranger auth "s/ ..../ 0000/" cluster.key
stranger key "s/^k1/7/" cluster.key
stranger cluster "s/name: lab/name: plant/" node.yaml

# The real one is welcome.
rm -rf "$(node_dir 3)/state"
node_start 3
node_wait_ready 3
net_announce 3
eventually "all hold the same SAs" 5 same_sas
equal "n1: the key of n3" same "$(member 1 3 key_state)"
equal "pings" "20 20" "$(customer_ping 1 20 0.01)"
test_end
