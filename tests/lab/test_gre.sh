#!/usr/bin/env bash
# GRE customers (RFC 2784, 2890), carried by every node: packets made with scapy go in
# sprayed and the replies come out sprayed, with and without a key. What is not a
# configured tunnel's is dropped and counted.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

PINGS=60

# gre CUSTOMER EXPECTED-REPLIES OPTIONS...: prints what gre_ping.py says
gre() {
    local c=$1
    shift
    in_ns "c$c" "$PYTHON" "$TESTS_LAB/gre_ping.py" --outer-src "$(customer_addr "$c")" --outer-dst "$ANYCAST" \
        --inner-src "$(customer_host "$c")" --inner-dst "$INNER_HOST" "$@"
}

drops_total() {
    local i
    for i in $(all_nodes); do node_drops "$i"; done | awk '{ n += $2 } END { print n + 0 }'
}

# dropped DESCRIPTION COUNT CUSTOMER OPTIONS...: no replies, and as many drops counted
dropped() {
    local what=$1 count=$2 c=$3 before
    shift 3
    before=$(drops_total)
    equal "$what: replies" 0 "$(gre "$c" --count "$count" --wait 0.3 "$@")"
    between "$what: packets counted as dropped" "$count" $((count + 5)) $(($(drops_total) - before))
}

test_begin gre 60
# c1: plain, c2: with a key, c3: no tunnel of its own
lab_begin 3 3
net_up
set_fact customers 0 # no IPsec tunnels, no charon
config_begin
config_gre_tunnel gre-plain "$(customer_addr 1)" "$(customer_net 1)" 1
config_gre_tunnel gre-key "$(customer_addr 2)" "$(customer_net 2)" 2 "gre_key: 7" "ttl: 64" "mtu: 1476"
config_end
lab_start
net_spray on
net_egress_spray on

equal "plain: replies" "$PINGS" "$(gre 1 --count "$PINGS")"
equal "key 7: replies" "$PINGS" "$(gre 2 --count "$PINGS" --key 7)"
equal "with a checksum: replies" 9 "$(gre 1 --count 9 --checksum)"
for node in $(all_nodes); do
    # two thirds of 120 would be enough for two nodes: each must have a third
    between "n$node: packets in" 38 50 "$(node_packets "$node" in)"
    between "n$node: packets out" 38 50 "$(node_packets "$node" out)"
done

dropped "an unknown source" 6 3
dropped "a key where none is configured" 6 1 --key 9
dropped "no key where one is configured" 6 2
dropped "a wrong key" 6 2 --key 8
dropped "a wrong checksum" 6 1 --bad-checksum
dropped "an unknown flag" 6 1 --flag
for node in $(all_nodes); do say "n$node drops: $(node_drops "$node" | paste -sd ,)"; done
test_end
