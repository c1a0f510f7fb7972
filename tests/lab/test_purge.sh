#!/usr/bin/env bash
# anysa purge: every SA of the cluster goes, those of a dead owner, too; routers are told by each
# live owner and come back by themselves, and nothing of what was comes back with a node that slept.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

purge() { in_ns "n$1" "$BIN/anysa" purge "${@:2}"; }
no_sas_anywhere() { every_node no_sas; }
router_has_none() { [ -z "$(customer_swanctl "$1" --list-sas)" ]; }
is_dead() { [ "$(node_get "$1" /v1/nodes | jq -r ".items[] | select(.slot == $2) | .state")" = dead ]; }

test_begin purge 100
lab_up 3 3 no
for node in 1 2 3; do
    net_pin_ingress "$node"
    check "c$node: tunnel, of n$node" customer_up "$node"
done
net_pin_ingress none
net_spray on
eventually "all hold all SAs" 5 same_sas
equal "Child SAs" 3 "$(child_count 1)"
old=$(spi_list 1 | sort)

# n3 sleeps through it: its SA has a dead owner
net_withdraw 3
node_kill 3
eventually "n3 is dead" 5 is_dead 1 3
if purge 1 2>"$STATE/refusal"; then fail "without --yes"; fi
check "and says what it takes" grep -q -- '--yes' "$STATE/refusal"
equal "nothing is gone" 3 "$(child_count 1)"
answer=$(purge 1 --yes --json)
equal "answer" "3 3" "$(jq -r '"\(.ike_sas) \(.child_sas)"' <<<"$answer")"
eventually "no SA on n1 and n2" 3 no_sas_anywhere
for customer in 1 2; do eventually "c$customer was told" 3 router_has_none "$customer"; done

# n3 has all of them in its journal
node_start 3
node_wait_ready 3
net_announce 3
eventually "no SA on n3 either" 3 no_sas 3
sleep 0.5
check "none comes back" no_sas_anywhere
customer_down 3 || true # it was not told: its owner was dead
for customer in 1 2 3; do
    check "c$customer: a new tunnel" customer_up "$customer"
    equal "c$customer: pings" "20 20" "$(customer_ping "$customer" 20 0.01)"
done
eventually "all hold the new SAs" 5 same_sas
equal "old SAs among them" "" "$(comm -12 <(spi_list 1 | sort) <(printf '%s\n' "$old"))"
for node in 1 2 3; do node_kill "$node"; done
for node in 1 2 3; do node_start "$node"; done
for node in 1 2 3; do node_wait_ready "$node"; done
equal "old SAs after all were killed" "" "$(comm -12 <(spi_list 1 | sort) <(printf '%s\n' "$old"))"
equal "c1: pings" "20 20" "$(customer_ping 1 20 0.01)"
test_end
