#!/usr/bin/env bash
# Any node carries any tunnel, from the first packet on.
#
#   1. the customer's packets, IKE too, take turns over three nodes; the way back is
#      one node's, and the customer keeps its anti-replay window
#   2. the same with the way back sprayed as well, the window off
#
# Both: pings start the moment the tunnel is up, run both ways, and ten Child rekeys
# happen meanwhile. All are answered and each node carries its third.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

PINGS=300

rekey_ten_times() {
    local i before
    for i in $(seq 10); do
        sleep 0.2
        before=$(rekeys_done)
        customer_rekey 1
        wait_until 2 rekeyed_since "$before" || { echo "rekey $i did not finish" >&2; return 1; }
    done
}
rekeys_done() { customer_log 1 | grep -c 'inbound CHILD_SA net{[0-9]*} established' || true; }
rekeyed_since() { [ "$(rekeys_done)" -gt "$1" ]; }

# counters DIRECTION: one number per node
counters() { local i; for i in $(all_nodes); do node_packets "$i" "$1"; done | paste -sd ' '; }

# thirds DESCRIPTION TOTAL BEFORE AFTER: each node's share is within a tenth of a third
thirds() {
    local what=$1 total=$2 i
    local -a before after
    read -r -a before <<<"$3"
    read -r -a after <<<"$4"
    for i in 0 1 2; do
        between "$what, n$((i + 1))" $((total * 3 / 10)) $((total * 37 / 100)) $((after[i] - before[i]))
    done
}

run() { # VARIANT EGRESS_SPRAY
    local variant=$1 egress=$2 in0 out0 rekeys from_customer from_inner
    # One customer per variant: a fresh SA, so the sums below are exact.
    customer_start 1
    net_spray on
    net_egress_spray "$egress"
    in0=$(counters in)
    out0=$(counters out)
    rekeys=$(rekeys_done)

    check "$variant: the customer gets a tunnel" customer_up 1
    inner_ping 1 "$PINGS" 0.01 >"$STATE/inner.ping" &
    local inner_job=$!
    rekey_ten_times &
    local rekey_job=$!
    from_customer=$(customer_ping 1 "$PINGS" 0.01 || true)
    wait "$inner_job" || true
    from_inner=$(cat "$STATE/inner.ping")
    check "$variant: ten rekeys" wait "$rekey_job"

    equal "$variant: pings of the customer (sent, answered)" "$PINGS $PINGS" "$from_customer"
    equal "$variant: pings of the inner host (sent, answered)" "$PINGS $PINGS" "$from_inner"
    equal "$variant: rekeys" 10 $(($(rekeys_done) - rekeys))
    # 300 requests and 300 replies in either direction
    thirds "$variant: packets in" $((2 * PINGS)) "$in0" "$(counters in)"
    if [ "$egress" = on ]; then
        thirds "$variant: packets out" $((2 * PINGS)) "$out0" "$(counters out)"
    fi
    eventually "$variant: all nodes show the same SAs" 10 same_sas
    check "$variant: the customer closes" customer_down 1
    eventually "$variant: no SA is left anywhere" 10 every_node no_sas
    customer_stop 1
    say "$variant: $PINGS of $PINGS both ways over 10 rekeys; in $in0 -> $(counters in), out $out0 -> $(counters out)"
}

test_begin spray 60
lab_begin 3 1
net_up
config_begin
config_end
for node in $(all_nodes); do node_start "$node"; done
for node in $(all_nodes); do node_wait_ready "$node"; done
C_REPLAY=on run "towards the cluster" off
C_REPLAY=off run "both ways" on
test_end
