#!/usr/bin/env bash
# The member list changes while the cluster carries packets, each of them through the next node in
# turn, both ways: no packet is lost and no router renegotiates.
#
#   1. 3 -> 4: a fourth node is added on each, one reload after the other, and takes its share
#   2. a second change before the first one is done everywhere is refused
#   3. 4 -> 3: it leaves
#   4. a node that restarts while another is lost for good gets no epoch from the one that is left;
#      the lost one is removed, and it does
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

yaml() { printf '%s/node.yaml' "$(node_dir "$1")"; }
change() { in_ns "n$1" "$BIN/anysa" member "${@:2}" --config "$(yaml "$1")"; } # NODE add|remove SLOT...
refused() { ! change "$@" >"$STATE/refusal" 2>&1; }
reload() { kill -s HUP "$(pid_of "n$1")"; }
member() { node_get "$1" /v1/nodes | jq -r ".items[] | select(.slot == $2) | $3"; }
slots() { node_get "$1" /v1/nodes | jq -r '[.items[].slot] | sort | join(" ")'; }
has_slots() { [ "$(slots "$1")" = "$2" ]; }
agree() { [ "$(for i in "$@"; do for j in "$@"; do member "$i" "$j" .members_digest; done; done | sort -u | wc -l)" = 1 ]; }
is_dead() { [ "$(member "$1" "$2" .state)" = dead ]; }
no_epoch() { [[ $(node_not_ready_because "$1") == *no_epoch* ]]; }

test_begin members 130
lab_begin 4 2
net_up
config_begin
config_end
for node in 1 2 3; do check "n$node begins without n4" change "$node" remove 4 --force; done
for node in 1 2 3; do node_start "$node"; done
for customer in 1 2; do customer_start "$customer"; done
for node in 1 2 3; do node_wait_ready "$node"; done
net_withdraw 4
net_no_offload
net_spray on
net_egress_spray on
check "c1: tunnel" customer_up 1
eventually "all hold its SA" 5 same_sas
sas=$(router_sas 1)
epochs=$(for node in 1 2 3; do member "$node" "$node" .epoch; done)
pings_start 1 0.02

# 1. and 2. It is there before it is a member anywhere, and refused.
node_start 4
check "n1: add" change 1 add 4 10.99.0.4:7800
check "the rest of the file is untouched" diff <(sed 's/, {slot: 4[^}]*}//' "$(yaml 1)") \
    <(sed 's/, {slot: 4[^}]*}//; s/name: n4, slot: 4/name: n1, slot: 1/' "$(yaml 4)")
check "n1: a second change before the reload is refused" refused 1 remove 3
check "and says why" grep -q 'one change at a time' "$STATE/refusal"
reload 1
eventually "n1 has four" 3 has_slots 1 "1 2 3 4"
check "n1: a second change before the others follow is refused" refused 1 remove 3
check "and says who" grep -q 'member 2 has another member list' "$STATE/refusal"
check "c1: rekey while lists differ" router_rekeys 1 child
sas=$(router_sas 1)
for node in 2 3; do
    check "n$node: add" change "$node" add 4 10.99.0.4:7800
    reload "$node"
done
node_wait_ready 4
eventually "all agree" 3 agree 1 2 3 4
net_announce 4
eventually "all hold the SA" 5 same_sas
before=$(node_packets 4 in)
sleep 1
between "packets in through n4, which is new" 5 100000 $(($(node_packets 4 in) - before))
check "n1: what is done already changes nothing" change 1 add 4 10.99.0.4:7800
equal "epochs of the others" "$epochs" "$(for node in 1 2 3; do member "$node" "$node" .epoch; done)"
check "c2: tunnel, with four" customer_up 2
say "1: grown to four"

# Two members at once, by hand: the node does not take it.
cp "$(yaml 1)" "$STATE/kept"
sed -i 's/, {slot: 3[^}]*}, {slot: 4[^}]*}//' "$(yaml 1)"
reload 1
two_at_once() { node_log 1 | grep -q '2 are gone: the member list stays'; }
eventually "two at once are refused" 3 two_at_once
equal "n1: members" "1 2 3 4" "$(slots 1)"
cp "$STATE/kept" "$(yaml 1)"

# 3. It leaves.
net_withdraw 4
check "n4: a node does not remove itself" refused 4 remove 4
check "n4 stops" node_stop 4
for node in 1 2 3; do
    check "n$node: remove" change "$node" remove 4
    reload "$node"
done
for node in 1 2 3; do eventually "n$node has three" 3 has_slots "$node" "1 2 3"; done
eventually "all agree" 3 agree 1 2 3
equal "epochs of the others" "$epochs" "$(for node in 1 2 3; do member "$node" "$node" .epoch; done)"
pings_end "four and back" 1 150
equal "c1: SAs are those before" "$sas" "$(router_sas 1)"
say "3: shrunk to three; $PINGS_ANSWERED pings, none lost"

# 4. n3 is lost for good, and n1 restarts.
net_withdraw 3
node_kill 3
net_withdraw 1
node_kill 1
node_start 1
eventually "n1 gets no epoch" 5 no_epoch 1
sleep 1
check "n1 still gets none" no_epoch 1
eventually "n3 is dead" 3 is_dead 2 3
pings_start 1 0.02
for node in 1 2; do
    check "n$node: remove" change "$node" remove 3
    reload "$node"
done
node_wait_ready 1
net_announce 1
eventually "n1 and n2 agree" 3 agree 1 2
check "c1: rekey with two" router_rekeys 1 child
sleep 1
pings_end "the lost one is removed" 1 50
equal "c2: pings" "40 40" "$(customer_ping 2 40 0.01)"
say "4: two members, one lost"
test_end
