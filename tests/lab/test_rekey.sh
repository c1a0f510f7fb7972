#!/usr/bin/env bash
# Rekeys of the Child SA and of the IKE SA, begun by either side, with PFS in both
# groups, while both ways are sprayed packet by packet: no ping is lost.
#
#   1. the router rekeys the IKE SA five times and the Child SA twenty times (group 14,
#      then group 5)
#   2. the nodes' lifetimes are short, so the owner rekeys by itself, IKE SA included
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

# count PATTERN: of lines in all nodes' logs
count() { local i n=0; for i in $(all_nodes); do n=$((n + $(node_log "$i" | grep -cE "$1" || true))); done; echo "$n"; }
more_than() { [ "$(count "$1")" -gt "$2" ]; }

# router_rekeys WHAT PATTERN TIMES SWANCTL-ARGS...
router_rekeys() {
    local pattern=$1 times=$2 i before
    shift 2
    for i in $(seq "$times"); do
        before=$(count "$pattern")
        customer_swanctl 1 --rekey "$@" >/dev/null
        wait_until 3 more_than "$pattern" "$before" || { echo "rekey $i ($*) did not finish" >&2; return 1; }
        wait_until 3 one_of_each || { echo "after rekey $i ($*) the old SA stays" >&2; return 1; }
    done
}

# The router deletes what it rekeyed; before that it takes no further order.
one_of_each() {
    [ "$(customer_children 1)" -eq 1 ] && [ "$(customer_swanctl 1 --list-sas | grep -c '^gw:')" -eq 1 ]
}

begin_pings() { # COUNT
    inner_ping 1 "$1" 0.01 >"$STATE/inner.ping" &
    inner_job=$!
    customer_ping 1 "$1" 0.01 >"$STATE/customer.ping" &
    customer_job=$!
}

end_pings() { # WHAT COUNT
    wait "$inner_job" || true
    wait "$customer_job" || true
    equal "$1: pings of the customer" "$2 $2" "$(cat "$STATE/customer.ping")"
    equal "$1: pings of the inner host" "$2 $2" "$(cat "$STATE/inner.ping")"
}

by_the_router() { # GROUP
    local rekeyed
    rekeyed=$(count 'Child SA .* rekeyed to')
    C_IKE=aes256gcm16-prfsha256-$1 C_ESP=aes256gcm16-$1 customer_config 1
    check "$1: tunnel" customer_up 1
    begin_pings 700
    check "$1: the router rekeys the Child SA" router_rekeys 'Child SA .* rekeyed to' 10 --child net
    check "$1: the router rekeys the IKE SA" router_rekeys 'IKE SA .* rekeyed to' 3 --ike gw
    eventually "$1: the Child SAs name the new IKE SA" 5 children_name_it
    check "$1: and the Child SA of the new one" router_rekeys 'Child SA .* rekeyed to' 3 --child net
    end_pings "$1" 700
    equal "$1: Child rekeys" 13 $(($(count 'Child SA .* rekeyed to') - rekeyed))
    eventually "$1: one IKE SA is left" 5 one_ike_sa
    eventually "$1: all nodes show the same SAs" 5 same_sas
    check "$1: the customer closes" customer_down 1
    eventually "$1: no SA is left anywhere" 5 every_node no_sas
    say "$1: 13 Child rekeys and 3 IKE rekeys by the router, no ping lost"
}
one_ike_sa() { [ "$(ike_count 1)" -eq 1 ]; }
# The only IKE SA is the one that every Child SA names.
children_name_it() {
    one_ike_sa && [ "$(node_list 1 /v1/child-sas | jq -r .ike_spi_r | sort -u)" = "$(node_list 1 /v1/ike-sas | jq -r .spi_r)" ]
}

by_the_owner() {
    C_ESP=aes256gcm16-modp2048 customer_config 1
    check "owner: tunnel" customer_up 1
    begin_pings 4000
    end_pings "owner" 4000
    between "owner: its Child rekeys in 40 s" 2 3 "$(count 'Child SA .* rekeyed by us')"
    between "owner: its IKE rekeys in 40 s" 1 2 "$(count 'IKE SA .* rekeyed by us')"
    equal "owner: handshakes" 1 $(($(count 'IKE SA .* established') - handshakes))
    say "owner: $(count 'Child SA .* rekeyed by us') Child rekeys and $(count 'IKE SA .* rekeyed by us') IKE rekeys by the node, no ping lost"
}

test_begin rekey 150
lab_begin 3 1
net_up
# 20 s: a Child SA is rekeyed after 16 to 18 s; the IKE SA of 40 s after 32 to 36 s
NODE_CHILD_LIFETIME=20 NODE_LIFETIME=40 NODE_DPD=5
config_begin
config_end
lab_start
net_spray on
net_egress_spray on
by_the_router modp2048
by_the_router modp1536
handshakes=$(count 'IKE SA .* established')
by_the_owner
test_end
