#!/usr/bin/env bash
# A packet comes to a node that has not heard of its SA yet.
#
#   1. n3 hears nothing of what the others publish or send to it, so the barrier times out; the
#      tunnel's first packets go to n3: they wait there while n3 asks n1, and none is lost
#   2. the same under a rekey, the packets sprayed over all nodes
#   3. SPIs that nobody made, once and in a flood: bounded questions, and the traffic goes on
#   4. what n1 publishes does not reach n3, but what it sends to n3 alone does: n3 has the SA before
#      the answer leaves, and no barrier times out
#   5. the SAs of a dead node are not waited for
#
# Members count as dead only after DEAD_MS here, so that n3 knows them as live while it is deaf.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

DEAD_MS=4000
PUB_PORT=7800
REP_PORT=7801
PULLS_PER_SECOND=50 # of one member: MISS_PULL_EVERY_MS

lost_at_n3() { # RULE...: of the mesh's packets
    in_ns n3 nft -f - <<NFT
table ip deaf {
    chain input {
        type filter hook input priority 0; policy accept;
        $(printf 'iifname mesh0 %s drop\n' "$@")
    }
}
NFT
}
no_stream() { lost_at_n3 "tcp sport $PUB_PORT"; } # nothing of what n1 and n2 publish
deaf() { lost_at_n3 "tcp sport $PUB_PORT" "tcp dport $REP_PORT"; } # nor notes; it can ask them
hears() { in_ns n3 nft delete table ip deaf; }

hears_all() { [ "$(node_metric 3 anysa_members_live)" -eq 3 ] && [ "$(node_get 3 /v1/cluster | jq -r .converged)" = true ]; }
silence_over() { eventually "$1: n3 hears the others again" 10 hears_all; }

held()     { node_metric 3 anysa_held_packets_total; }
released() { node_metric 3 anysa_held_released_total; }
asked()    { node_metric 3 anysa_miss_pulls_total; }
no_sa()    { node_metric 3 'anysa_drops_total{reason="no_sa"}'; }
timeouts() { node_metric 1 anysa_barrier_timeouts_total; }
spis()     { spi_list "$1" | sort | paste -sd ' '; }
reminders() { node_metric 1 anysa_barrier_reminders_total; }

test_equals() { local want=$1; shift; [ "$("$@")" = "$want" ]; } # EXPECTED COMMAND...
invent() { in_ns c1 "$PYTHON" "$TESTS_LAB/hold_esp.py" invent "$ANYCAST" "$@"; }

test_begin miss 60
lab_begin 3 1
net_up
config_begin
config_end
for node in $(all_nodes); do
    sed -i "s/dead_ms: .*/dead_ms: $DEAD_MS/" "$(node_dir "$node")/node.yaml"
    node_start "$node"
done
for node in $(all_nodes); do node_wait_ready "$node"; done
customer_start 1
net_pin 1 # the way back

what="the first packet"
net_pin_ingress 1
deaf
check "$what: the customer gets a tunnel" customer_up 1
check "$what: the barrier timed out" [ "$(timeouts)" -ge 1 ]
spi=$(first_child 1)
check "$what: n3 does not have the SA" [ "$(child_count 3)" -eq 0 ]
net_pin_ingress 3
# Far enough apart that no later packet wakes the lane for an earlier one.
equal "$what: pings" "10 10" "$(customer_ping 1 10 0.1)"
check "$what: it was held" [ "$(held)" -ge 1 ]
equal "$what: all that was held went on" "$(held)" "$(released)"
equal "$what: n3 asked" 1 "$(asked)"
equal "$what: dropped for want of an SA" 0 "$(no_sa)"
check "$what: n3 has the SA now" has_child 3 "$spi"
say "$what: held $(held), asked $(asked) time(s), 10 of 10 pings"
hears
silence_over "$what"

what="a rekey"
held0=$(held) asked0=$(asked)
net_pin_ingress none
net_spray on
pings_start 1 0.01
sleep 0.3
deaf
check "$what: by the router" router_rekeys 1 child
sleep 0.5
hears
silence_over "$what"
pings_end "$what" 1 100
check "$what: packets were held" [ "$(held)" -gt "$held0" ]
equal "$what: all that was held went on" "$(held)" "$(released)"
between "$what: questions" 1 5 $(($(asked) - asked0))
say "$what: held $(($(held) - held0)), asked $(($(asked) - asked0)) time(s), no ping of $PINGS_ANSWERED lost"

what="an invented SPI"
net_spray off
net_pin_ingress 3
no_sa0=$(no_sa) asked0=$(asked) overs=$(node_metric 3 anysa_sa_misses_over_total)
invent 1 1 10
eventually "$what: dropped" 2 test_equals "$((no_sa0 + 1))" no_sa
equal "$what: asked for" 1 $(($(asked) - asked0))
equal "$what: nobody has it" 1 $(($(node_metric 3 anysa_sa_misses_over_total) - overs))
invent 9 20 1000 # no member
eventually "$what of no slot: dropped" 2 test_equals "$((no_sa0 + 21))" no_sa
equal "$what of no slot: asked for" 1 $(($(asked) - asked0))

what="a flood"
no_sa0=$(no_sa) asked0=$(asked) held0=$(held) began=$(date +%s%N)
invent 1 6000 3000 &
flood=$!
equal "$what: pings" "150 150" "$(customer_ping 1 150 0.01)"
wait "$flood"
eventually "$what: all of it dropped" 2 test_equals "$((no_sa0 + 6000))" no_sa
took_ms=$((($(date +%s%N) - began) / 1000000))
between "$what: questions" 10 $((took_ms * PULLS_PER_SECOND / 1000 + 2)) $(($(asked) - asked0))
say "$what: 6000 invented in $took_ms ms: held $(($(held) - held0)), asked $(($(asked) - asked0)) times"

what="a stream that stands still"
timeouts0=$(timeouts) reminders0=$(reminders)
no_stream
check "$what: the router rekeys" router_rekeys 1 child
between "$what: reminders" 1 10 $(($(reminders) - reminders0))
equal "$what: time-outs" "$timeouts0" "$(timeouts)"
equal "$what: n3 has the SAs that n1 has" "$(spis 1)" "$(spis 3)"
hears
silence_over "$what"
say "$what: $(($(reminders) - reminders0)) reminders"

what="a dead node"
held0=$(held)
node_kill 2
eventually "$what: n3 knows" 10 test_equals 2 node_metric 3 anysa_members_live
no_sa0=$(no_sa)
invent 2 5 100
eventually "$what: dropped" 2 test_equals "$((no_sa0 + 5))" no_sa
equal "$what: nothing held" "$held0" "$(held)"
test_end
