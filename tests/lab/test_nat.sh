#!/usr/bin/env bash
# A customer behind a real NAT, whose mapping changes: the cluster follows, nobody renegotiates.
#
#   1. from port 500 on to 4500, and 2. on 4500 at once: nat is seen, pings sprayed both ways
#   3. the mapping gets another port in mid traffic: the next ESP packet shows it
#   4. it gets another address while the customer only listens: its liveness check shows it
#   5. ESP that somebody held back, or sends again, from another address moves nothing
#   6. all nodes are killed: the journals know where the customer is
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

FOLLOW_MS=1500 # from the first packet out of the new mapping to the first ESP back into it
OTHER_ADDRESS=198.51.100.91

peers() { { node_list "$1" /v1/ike-sas; node_list "$1" /v1/child-sas; } | jq -r .peer | sort -u; }
all_at() { [ "$(every_node peers | sort -u)" = "$1" ]; }
sas() { node_list 1 /v1/child-sas | jq -r '.spi_in + " " + .key_fingerprint' | sort; }
sum_of() { every_node node_metric "$1" | awk '{ n += $1 } END { print n + 0 }'; }
handshakes() { cat "$STATE"/n*/anysad.log | grep -c 'IKE SA .* established' || true; }

traffic() { # WHEN
    equal "$1: pings of the customer" "60 60" "$(customer_ping 1 60 0.01)"
    equal "$1: pings of the inner host" "60 60" "$(inner_ping 1 60 0.01)"
}

# Some are lost here, by intent: no long wait for them.
lossy_ping() { # BOX SOURCE DESTINATION COUNT WAIT
    in_ns "$1" "$PYTHON" "$LAB_D/patient_ping.py" --source "$2" --count "$4" --interval 0.01 --wait "$5" "$3" || true
}
lossy_customer_ping() { lossy_ping c1 "$(customer_host 1)" "$INNER_HOST" "$@" 2>/dev/null; }
lossy_inner_ping() { lossy_ping inner "$INNER_HOST" "$(customer_host 1)" "$@" 2>/dev/null; }

# first_time FILTER...: of the capture, in microseconds
first_time() { tcpdump -n -tt -r "$STATE/outside.pcap" "$@" 2>/dev/null | awk 'NR == 1 { sub(/[.]/, "", $1); print $1 }'; }

# followed WHAT ADDRESS PORT [FILTER]: how long until ESP went there. The filter tells the first
# packet that came from there.
followed() {
    local what=$1 there=$2 port=$3 kind=${4:-udp} came went
    eventually "$what: every node shows $there:$port" 5 all_at "$there:$port"
    sleep 0.3
    capture_stop outside
    came=$(first_time src host "$there" and src port "$port")
    went=$(first_time dst host "$there" and dst port "$port" and 'udp[8:4] != 0')
    [ -n "$came" ] && [ -n "$went" ] || fail "$what: came '$came', went '$went'"
    equal "$what: the first packet from there is $kind" "$came" \
        "$(first_time src host "$there" and src port "$port" and "$kind")"
    between "$what: us until ESP goes to the new address" 1 $((1000 * FOLLOW_MS)) $((went - came))
    say "$what: ESP goes to $there:$port $(ms $((went - came))) ms after the first packet from there"
}

watch_outside() { capture_start outside rtr "$STATE/outside.pcap" udp port 4500; }

tunnel() { # WHAT PORT
    C_PORT=$2 C_DPD=2 customer_config 1
    check "$1: the customer gets a tunnel" customer_up 1
    eventually "$1: all nodes hold the SA" 5 same_sas
    equal "$1: nat" true "$(node_first 1 /v1/ike-sas | jq -r .nat)"
    equal "$1: encap" udp "$(node_first 1 /v1/child-sas | jq -r .encap)"
    check "$1: the address is the NAT's" all_at "$(customer_addr 1):4500"
    traffic "$1"
}

# A port that changes while both sides send.
shown_by_esp() { # WHAT PORT
    local what=$1 port=$2 inner_job customer_job answered who before
    before=$(sas)
    watch_outside
    lossy_inner_ping 300 1 >"$STATE/inner.ping" &
    inner_job=$!
    lossy_customer_ping 300 1 >"$STATE/customer.ping" &
    customer_job=$!
    sleep 1
    nat_map 1 "$(customer_addr 1)" "$port"
    wait "$inner_job" || true
    wait "$customer_job" || true
    followed "$what" "$(customer_addr 1)" "$port" 'udp[8:4] != 0'
    for who in inner customer; do
        answered=$(awk '{ print $2 }' "$STATE/$who.ping")
        between "$what: of 300 pings ($who) answered" 150 300 "$answered"
        say "$what: pings of the $who: $answered of 300 answered"
    done
    equal "$what: the SAs are the same" "$before" "$(sas)"
    traffic "$what, afterwards"
}

# An address that changes while the customer sends nothing but IKE.
shown_by_ike() {
    local what="IKE" before
    before=$(sas)
    watch_outside
    nat_map 1 "$OTHER_ADDRESS" 31000
    lossy_inner_ping 500 0.5 >"$STATE/inner.ping" # the customer hears nothing of it and asks
    followed "$what" "$OTHER_ADDRESS" 31000 'udp[8:4] = 0'
    say "$what: pings of the inner host: $(awk '{ print $2 }' "$STATE/inner.ping") of 500 answered"
    equal "$what: the SAs are the same" "$before" "$(sas)"
    traffic "$what, afterwards"
}

hold_back() { # COUNT: packets of the customer that never leave its NAT, into $STATE/held
    in_ns nat1 nft add table ip hold
    in_ns nat1 nft add chain ip hold forward '{ type filter hook forward priority 0; policy accept; }'
    in_ns nat1 nft add rule ip hold forward iifname in0 udp dport 4500 drop
    spawn catch "$STATE/held" nsenter --net="$(ns_path nat1)" -- "$PYTHON" "$TESTS_LAB/hold_esp.py" catch in0 "$1"
    wait_until 5 grep -q catching "$STATE/held" || fail "nothing catches"
    lossy_customer_ping "$1" 0.2 >/dev/null
    wait_until 5 stopped catch || fail "fewer than $1 packets were held back"
    in_ns nat1 nft delete table ip hold
    sed -i /catching/d "$STATE/held"
}

send_from_elsewhere() { # HEX...
    in_ns c2 "$PYTHON" "$TESTS_LAB/hold_esp.py" send "$ANYCAST" "$@"
}

# c2 has packets of c1, and sends them from its own address.
lies() {
    local here=$1 failed packets reported
    local -a held
    failed=$(sum_of anysa_ike_move_probes_failed_total)
    reported=$(sum_of anysa_moves_reported_total)
    hold_back 6
    mapfile -t held <"$STATE/held"

    # Old ones: all nodes have seen younger ones.
    traffic "lies, first"
    packets=$(packets_in)
    send_from_elsewhere "${held[@]}"
    eventually "lies: the old packets are opened" 3 more_packets_than "$((packets + 5))"
    sleep 0.2
    equal "lies: an old packet is reported nowhere" "$reported" "$(sum_of anysa_moves_reported_total)"

    # The youngest: reported, asked about, refuted.
    hold_back 6
    mapfile -t held <"$STATE/held"
    send_from_elsewhere "${held[@]}"
    eventually "lies: the youngest packet is reported" 3 probe_begun "$reported"
    traffic "lies, while it is asked"
    eventually "lies: the customer answers from where it is" 8 refuted "$failed"
    check "lies: nothing moved" all_at "$here"
    traffic "lies, afterwards"
    say "lies: refuted, $(sum_of anysa_moves_reported_total) reports, $(sum_of anysa_ike_move_probes_total) probes"
}
packets_in() { sum_of 'anysa_packets_total{direction="in"}'; }
more_packets_than() { [ "$(packets_in)" -gt "$1" ]; }
probe_begun() { [ "$(sum_of anysa_moves_reported_total)" -gt "$1" ]; }
refuted() { [ "$(sum_of anysa_ike_move_probes_failed_total)" -gt "$1" ]; }

test_begin nat 75
lab_begin 3 2
C_NAT=1 net_up
config_begin
config_end
for node in $(all_nodes); do node_start "$node"; done
C_DPD=2 customer_start 1
for node in $(all_nodes); do node_wait_ready "$node"; done
nat_address 1 "$OTHER_ADDRESS"
net_spray on
net_egress_spray on

tunnel "500" 500
shown_by_esp "500, ESP" 30001
check "500: the customer closes" customer_down 1
eventually "500: no SA is left anywhere" 5 every_node no_sas
nat_map 1 "$(customer_addr 1)"

tunnel "4500" 4500
shown_by_esp "4500, ESP" 30002
shown_by_ike
lies "$OTHER_ADDRESS:31000"

for node in 1 2 3; do node_kill "$node"; done
for node in 1 2 3; do node_start "$node"; done
for node in 1 2 3; do node_wait_ready "$node"; done
check "after a restart of all: the customer is where it was" all_at "$OTHER_ADDRESS:31000"
traffic "after a restart of all"
equal "handshakes in all" 2 "$(handshakes)"
test_end
