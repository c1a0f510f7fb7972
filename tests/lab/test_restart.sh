#!/usr/bin/env bash
# A node may die and come back, and knows all SAs when it says that it is ready.
#
#   1. kill -9 of each node in turn, the owner included: ready within 2 s with all SAs
#   2. a node absent during a handshake has the SA when /readyz turns 200
#   3. a node that lost its disk gets everything from its peers
#   4. all nodes killed at once: the journals alone bring everything back
#
# The customers never renegotiate: their SAs carry traffic after every step, and an
# owner that restarted still answers IKE.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

READY_MS=2000

# fingerprints NODE: what tells one set of SAs, keys included, from another
fingerprints() { node_list "$1" /v1/child-sas | jq -r '.spi_in + " " + .spi_out + " " + .key_fingerprint' | sort; }

# restart_node NODE: kill -9 and start; checks time and SAs
restart_node() {
    local i=$1 expected=$2 began took
    node_kill "$i"
    began=$(now_us)
    node_start "$i"
    node_wait_ready "$i"
    took=$((($(now_us) - began) / 1000))
    equal "n$i: SAs the moment it is ready" "$expected" "$(fingerprints "$i")"
    between "n$i: ms until ready" 0 "$READY_MS" "$took"
    say "n$i ready after $took ms with $(wc -l <<<"$expected") SAs"
}

# traffic WHEN: sprayed both ways, so that every node takes part
traffic() {
    local i
    for i in "${tunnels[@]}"; do
        equal "$1: pings of c$i" "60 60" "$(customer_ping "$i" 60 0.01)"
        equal "$1: pings towards c$i" "60 60" "$(inner_ping "$i" 60 0.01)"
    done
}

test_begin restart 90
lab_up 3 3 no
net_spray on
net_egress_spray on
customer_up 1 && customer_up 2 || fail "no tunnel to begin with"
tunnels=(1 2)
eventually "all nodes hold both SAs" 5 same_sas
all=$(fingerprints 1)
equal "SAs to begin with" 2 "$(wc -l <<<"$all")"
traffic "at first"

for node in 1 2 3; do
    net_withdraw "$node"
    restart_node "$node" "$all"
    net_announce "$node"
done
traffic "after every node was killed once"

# Rekeys need the owner's IKE SA: resumed, not lost.
for customer in 1 2; do
    check "c$customer rekeys after its owner's restart" customer_rekey "$customer"
done
rekeyed() { [ "$(fingerprints 1)" != "$all" ] && [ "$(customer_log 1 | grep -c 'inbound CHILD_SA')" -ge 1 ] \
    && [ "$(customer_log 2 | grep -c 'inbound CHILD_SA')" -ge 1 ]; }
eventually "both rekeys happen" 5 rekeyed

# Absent during a handshake.
net_withdraw 3
node_kill 3
sleep 0.8 # until the others count it as dead
check "c3 gets a tunnel while n3 is away" customer_up 3
tunnels=(1 2 3)
spi=$(customer_swanctl 3 --list-sas | sed -n 's/^ *out *\([0-9a-f]*\),.*/0x\1/p' | head -n 1)
node_start 3
node_wait_ready 3
check "n3 holds the SA negotiated while it was away" has_child 3 "$spi"
net_announce 3
traffic "after n3 missed a handshake"

# A lost disk.
all=$(fingerprints 1)
net_withdraw 2
node_kill 2
rm -rf "$(node_dir 2)/state"
mkdir -m 700 "$(node_dir 2)/state"
node_start 2
node_wait_ready 2
equal "n2 after it lost its disk" "$all" "$(fingerprints 2)"
net_announce 2
traffic "after n2 lost its disk"

# Everything dies at once.
for node in 1 2 3; do node_kill "$node"; done
for node in 1 2 3; do node_start "$node"; done
for node in 1 2 3; do node_wait_ready "$node"; done
for node in 1 2 3; do equal "n$node after all were killed" "$all" "$(fingerprints "$node")"; done
traffic "after all were killed"
test_end
