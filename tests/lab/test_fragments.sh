#!/usr/bin/env bash
# IKE messages in fragments (RFC 7383), each fragment on another node.
#
# The router cuts its messages to packets of 220 octets, the nodes theirs to 400; all
# of them take turns over three nodes. The tunnel comes up, Child SA and IKE SA are
# rekeyed with PFS by either side, pings run both ways meanwhile.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

PINGS=400

count() { local i n=0; for i in $(all_nodes); do n=$((n + $(node_log "$i" | grep -cE "$1" || true))); done; echo "$n"; }
more_than() { [ "$(count "$1")" -gt "$2" ]; }
longest() { # PCAP PORT: the longest IP packet from the cluster on port 4500
    tcpdump -nr "$1" -v "src host $ANYCAST and udp src port 4500 and udp[8:4] = 0" 2>/dev/null |
        sed -n 's/.*proto UDP (17), length \([0-9]*\)).*/\1/p' | sort -n | tail -n 1
}
router_rekeys() { # PATTERN SWANCTL-ARGS...
    local pattern=$1 before
    shift
    before=$(count "$pattern")
    customer_swanctl 1 --rekey "$@" >/dev/null
    wait_until 5 more_than "$pattern" "$before" && wait_until 5 one_of_each
}
one_of_each() {
    [ "$(customer_children 1)" -eq 1 ] && [ "$(customer_swanctl 1 --list-sas | grep -c '^gw:')" -eq 1 ]
}

run() { # WHAT IKE
    local before
    before=$(metric_total anysa_ike_reassembled_total)
    C_IKE=$2 C_ESP=aes256gcm16-modp2048 customer_config 1
    check "$1: tunnel" customer_up 1
    inner_ping 1 "$PINGS" 0.01 >"$STATE/inner.ping" &
    local inner_job=$!
    customer_ping 1 "$PINGS" 0.01 >"$STATE/customer.ping" &
    local customer_job=$!
    check "$1: Child rekey" router_rekeys 'Child SA .* rekeyed to' --child net
    check "$1: IKE rekey" router_rekeys 'IKE SA .* rekeyed to' --ike gw
    check "$1: Child rekey of the new IKE SA" router_rekeys 'Child SA .* rekeyed to' --child net
    wait "$customer_job" || true
    wait "$inner_job" || true
    equal "$1: pings of the customer" "$PINGS $PINGS" "$(cat "$STATE/customer.ping")"
    equal "$1: pings of the inner host" "$PINGS $PINGS" "$(cat "$STATE/inner.ping")"
    # IKE_AUTH, two Child rekeys, one IKE rekey
    between "$1: messages put together" 4 8 $(($(metric_total anysa_ike_reassembled_total) - before))
    equal "$1: messages given up" 0 "$(metric_total anysa_ike_fragments_lost_total)"
    check "$1: the customer closes" customer_down 1
    eventually "$1: no SA is left" 5 every_node no_sas
    say "$1: $(($(metric_total anysa_ike_reassembled_total) - before)) messages put together of fragments on three nodes, no ping lost"
}

by_the_owner() {
    local before
    before=$(metric_total anysa_ike_reassembled_total)
    C_IKE=aes256gcm16-prfsha256-modp2048 C_ESP=aes256gcm16-modp2048 customer_config 1
    check "owner: tunnel" customer_up 1
    eventually "owner: it rekeys the Child SA" 15 more_than 'Child SA .* rekeyed by us' 0
    eventually "owner: it rekeys the IKE SA" 25 more_than 'IKE SA .* rekeyed by us' 0
    between "owner: answers put together" 3 9 $(($(metric_total anysa_ike_reassembled_total) - before))
    equal "owner: pings" "20 20" "$(customer_ping 1 20 0.01)"
    check "owner: the customer closes" customer_down 1
    eventually "owner: no SA is left" 5 every_node no_sas
}

test_begin fragments 75
lab_begin 3 1
net_up
NODE_FRAGMENT=400 NODE_CHILD_LIFETIME=15 NODE_LIFETIME=25 NODE_DPD=60
config_begin
config_end
for node in $(all_nodes); do node_start "$node"; done
for node in $(all_nodes); do node_wait_ready "$node"; done
C_FRAGMENT=220 customer_start 1
net_spray on
nsenter --net="$(ns_path rtr)" tcpdump -Ui any -w "$STATE/ike.pcap" udp 2>/dev/null &
capture=$!
sleep 0.5
run gcm aes256gcm16-prfsha256-modp2048
run cbc aes256-sha256-modp1536
by_the_owner
kill "$capture"
wait "$capture" || true
between "the longest IKE packet of the cluster" 200 400 "$(longest "$STATE/ike.pcap")"
for node in $(all_nodes); do
    between "n$node forwards IKE datagrams or owns the SAs" 1 100000 \
        "$(($(node_metric "$node" anysa_ike_datagrams_total) + $(node_metric "$node" anysa_forwarded_total)))"
done
test_end
