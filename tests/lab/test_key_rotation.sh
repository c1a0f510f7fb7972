#!/usr/bin/env bash
# The cluster key is replaced while the cluster carries packets, each of them through the next
# node in turn, both ways: no packet is lost and no router renegotiates.
#
#   1. --add on all nodes, 2. --use, 3. --drop; after each edit the node is reloaded, and in the
#      middle of each step one node is killed and comes back, with the key file as it is then,
#      before it was reloaded or after; while steps differ, routers rekey and a new one comes
#   4. what an operator can do wrong is refused: a key that not all accept, one that a member still
#      sends under, a step too many, a foreign file, another key under an old id
#   5. a node that comes back with the old key file is refused and named
#
# Journals that are wrapped under the new key, copied at each moment, open by the file of that moment.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

key_file() { printf '%s/cluster.key' "$(node_dir "$1")"; }
rotate() { in_ns "n$1" "$BIN/anysa" cluster-key rotate "$(key_file "$1")" "${@:2}"; } # NODE STEP...
reload() { kill -s HUP "$(pid_of "n$1")"; }
member() { node_get "$1" /v1/nodes | jq -r ".items[] | select(.slot == $2) | $3"; }
accepts() { [ "$(member "$1" "$2" '[.accepted_keys[].id] | sort | join(",")')" = "$3" ]; }
sends() { [ "$(member "$1" "$2" .key_id)" = "$3" ]; }
all_accept() { local i j; for i in 1 2 3; do for j in 1 2 3; do accepts "$i" "$j" "$1" || return 1; done; done; }
all_send() { local i j; for i in 1 2 3; do for j in 1 2 3; do sends "$i" "$j" "$1" || return 1; done; done; }
ids() { awk '{ printf "%s ", $1 }' "$(key_file "$1")"; }
refused() { ! rotate "$@" >"$STATE/refusal" 2>&1; }
is_dead() { [ "$(member "$1" "$2" .state)" = dead ]; }
new_sa() { [ "$(member "$1" "$1" .child_sas)" -gt "$2" ]; }
one_fingerprint() { [ "$(for i in 1 2 3; do node_list "$i" /v1/child-sas | jq -r '.spi_in + .key_fingerprint'; done | sort -u | wc -l)" = "$(child_count 1)" ]; }

# a crash of NODE in the middle of a step, then the same process again
crash() {
    net_withdraw "$1"
    node_kill "$1"
    node_start "$1"
    node_wait_ready "$1"
    net_announce "$1"
}

test_begin key_rotation 170
lab_up 3 2 no
net_spray on
net_egress_spray on
check "c1: tunnel" customer_up 1
eventually "all hold its SA" 5 same_sas
old_id=$(member 1 1 .key_id)
both=2,$old_id # a hash of a name: surely the greater one
sas=$(router_sas 1)
(umask 077 && "$BIN/anysa" cluster-key generate --id 2 >"$STATE/new.key")
pings_start 1 0.01

# 1. every node accepts it. n2 dies between edit and reload, n3 after the reload.
check "n1: --add" rotate 1 --add "$STATE/new.key"
equal "n1: file" "k1 2 " "$(ids 1)"
equal "n1: mode" 600 "$(stat -c %a "$(key_file 1)")"
reload 1
eventually "n1 accepts both" 3 accepts 1 1 "$both"
check "n1: --use while n2 and n3 do not accept it is refused" refused 1 --use 2
check "and says who" grep -q 'member 3 does not accept that key yet' "$STATE/refusal"
check "n2: --add" rotate 2 --add "$STATE/new.key"
crash 2
check "n3: --add" rotate 3 --add "$STATE/new.key"
reload 3
crash 3
eventually "all accept both" 5 all_accept "$both"
check "n1: --add once more changes nothing" rotate 1 --add "$STATE/new.key"
equal "n1: file" "k1 2 " "$(ids 1)"
all_send "$old_id" || fail "somebody sends under the new key already"
say "1: all accept both keys"

# 2. every node sends under it. n2 dies between edit and reload, n3 right after the reload.
check "n1: --use" rotate 1 --use 2
reload 1
eventually "n1 sends under it" 3 sends 2 1 2
check "n1: --drop while others send under the old one is refused" refused 1 --drop k1
check "and says who" grep -q 'member 2 still sends under that key' "$STATE/refusal"
equal "n1: file" "2 k1 " "$(ids 1)"
# nodes differ: exchanges whose messages meet all of them
check "c1: rekey while nodes differ" router_rekeys 1 child
check "c1: IKE rekey while nodes differ" router_rekeys 1 ike
check "c2: a new tunnel while nodes differ" customer_up 2
sas=$(router_sas 1)
check "n2: --use" rotate 2 --use 2
crash 2
check "n3: --use" rotate 3 --use 2
net_withdraw 3
reload 3
node_kill 3 # now, whether the journal is wrapped anew or not
eventually "n3 is dead" 3 is_dead 1 3
check "n1: --drop while n3 is dead is refused" refused 1 --drop k1
node_start 3
node_wait_ready 3
net_announce 3
eventually "all send under the new key" 5 all_send 2
eventually "fingerprints agree again" 3 one_fingerprint
say "2: all send under the new key"

# 3. no node accepts the old one
check "n1: --drop of the one that sends is refused" refused 1 --drop 2
for node in 1 2 3; do
    check "n$node: --drop" rotate "$node" --drop k1
    equal "n$node: file" "2 " "$(ids "$node")"
    [ "$node" = 2 ] || reload "$node"
    [ "$node" = 1 ] || crash "$node"
done
eventually "all accept the new key alone" 5 all_accept 2
check "n1: --drop once more changes nothing" rotate 1 --drop k1
pings_end "rotation" 1 300
equal "c1: SAs are those before" "$sas" "$(router_sas 1)"
say "3: the old key is gone; $PINGS_ANSWERED pings, none lost"

# 4. files that are no step of a rotation
mark=$(log_mark 1)
cp -a "$(key_file 1)" "$STATE/good"
(umask 077 && "$BIN/anysa" cluster-key generate --id 3 >"$STATE/foreign" && "$BIN/anysa" cluster-key generate --id 2 >"$STATE/clash")
cp "$STATE/foreign" "$(key_file 1)"
reload 1
said() { log_since 1 "$mark" | grep -q "$1"; }
eventually "a foreign file is refused" 3 said 'none of the keys in use'
cp "$STATE/clash" "$(key_file 1)"
reload 1
eventually "another key under that id is refused" 3 said 'id that is in use to another key'
cp -a "$STATE/good" "$(key_file 1)"
reload 1
eventually "n1 goes on" 3 all_accept 2

# 5. a node that slept through it all
net_withdraw 3
node_kill 3
eventually "n3 is dead" 3 is_dead 1 3
printf 'k1 %s\n' "$(awk '{ print $2 }' "$STATE/common/cluster.key")" >"$(key_file 3)"
node_start 3
gone() { ! running n3; }
eventually "its journal is under the new key: it does not start, and says so" 5 gone
check "n3 says why" grep -q 'sealed under a cluster key that is not configured' <(node_log 3)
mv "$(node_dir 3)/state" "$STATE/state-3"
mkdir -m 700 "$(node_dir 3)/state"
node_start 3
named() { [ "$(member "$1" 3 '"\(.key_id) \(.key_state)"')" = "$old_id unknown" ]; }
for node in 1 2; do eventually "n$node names the stale key" 5 named "$node"; done
equal "n3 hears nobody" dead "$(member 3 1 .state)"
node_kill 3
cp -a "$STATE/good" "$(key_file 3)"
rm -rf "$(node_dir 3)/state"
mv "$STATE/state-3" "$(node_dir 3)/state"
node_start 3
node_wait_ready 3
net_announce 3
eventually "all hold the same SAs" 5 same_sas
for customer in 1 2; do
    equal "pings of c$customer" "40 40" "$(customer_ping "$customer" 40 0.01)"
    check "c$customer: rekey" router_rekeys "$customer" child
done
test_end
