#!/usr/bin/env bash
# Who may put which epoch into its IVs: granted by the others, renewed in time, never by two.
#
#   1. epochs of 4,000 IVs: under traffic the next one is always there in time
#   2. a node that cannot get one stops sending when its IVs are used up, and says so
#   3. a node that nobody grants an epoch negotiates and carries SAs of its own making, in epoch 0
#   4. a second process of a slot, configured by mistake, stops within a second or so; the first goes on
#   5. a node is cut off and its copy runs elsewhere meanwhile: after the heal the one
#      with the lower epoch stops within a second
#
# Everything on the wire is audited: no (SPI, IV) twice.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

if ! grep -aq ANYSA_TEST_IV_MAX "$BIN/anysad"; then
    BIN=$(cd "$TESTS_LAB/../.." && pwd)/build/dev/node
    grep -aq ANYSA_TEST_IV_MAX "$BIN/anysad" 2>/dev/null \
        || skip "no anysad built with -DANYSA_TEST_HOOKS=ON in ANYSA_BIN or build/dev/node"
fi

epoch_of() { node_metric "$1" anysa_epoch; } # NODE
epoch_above() { [ "$(epoch_of "$1")" -gt "$2" ]; }
dropped() { node_get "$1" /metrics | awk -v r="anysa_drops_total{reason=\"$2\"}" '$1 == r { print $2 }'; }
not_ready_because() { [[ $(node_not_ready_because "$1") == *"$2"* ]]; }
gone() { ! running "$1"; }
unsure_grantors() { in_ns "n$1" curl -s --max-time 2 http://127.0.0.1:8080/readyz | grep -q epoch_grantors_unsure; }

# a copy of n1's directory that runs where n5 would, as slot 1
impostor_make() {
    local dir=$STATE/impostor
    rm -rf "$dir"
    cp -a "$(node_dir 1)" "$dir"
    sed -i 's/slot: 5, address: "10.99.0.5:7800"/slot: 5, address: "10.99.0.55:7800"/
            s/slot: 1, address: "10.99.0.1:7800"/slot: 1, address: "10.99.0.5:7800"/' "$dir/node.yaml"
    rm -f "$dir/anysad.log"
}
impostor_start() {
    spawn impostor "$STATE/impostor/anysad.log" nsenter --net="$(ns_path n5)" -- \
        "$BIN/anysad" --config "$STATE/impostor/node.yaml"
}
# members that look for slot 1 where the impostor is; on: yes or no
look_at_impostor() {
    local i
    for i in 2 3 4; do
        in_ns "n$i" nft -f - <<-RULES
	table ip impostor {}
	delete table ip impostor
	RULES
        [ "$1" = yes ] || continue
        in_ns "n$i" nft -f - <<-RULES
	table ip impostor {
	    chain out { type nat hook output priority -100; ip daddr 10.99.0.1 dnat to 10.99.0.5; }
	}
	RULES
    done
}
cut_off() { # NODE on|off
    in_ns "n$1" nft -f - <<-RULES
	table inet cut {}
	delete table inet cut
	RULES
    [ "$2" = on ] || return 0
    in_ns "n$1" nft -f - <<-RULES
	table inet cut {
	    chain in  { type filter hook input priority 0;  tcp dport { 7800, 7801 } drop; tcp sport { 7800, 7801 } drop; }
	    chain out { type filter hook output priority 0; tcp dport { 7800, 7801 } drop; tcp sport { 7800, 7801 } drop; }
	}
	RULES
}
send() { in_ns inner "$PYTHON" "$TESTS_LAB/send_udp.py" "$(customer_host 1)" 9 "$1" 1500; }
is_dead_at() { [ "$(node_list "$1" /v1/nodes | jq -r --argjson s "$2" 'select(.slot == $s).state')" = dead ]; }

test_begin epochs 140
lab_begin 5 2
net_up
config_begin
config_end
for node in 1 2 3 4 5; do node_start "$node" ANYSA_TEST_IV_MAX=4000; done
for node in 1 2 3 4 5; do node_wait_ready "$node"; done
for customer in 1 2; do customer_start "$customer"; done
net_no_offload
capture_start audit rtr "$STATE/audit.pcap" 'udp port 500 or udp port 4500 or esp'
net_withdraw 5
check "n5 leaves" node_stop 5
net_pin_ingress 1
check "c1 gets a tunnel" customer_up 1

# 1. renewal
net_pin 2
first=$(epoch_of 2)
pings_start 1 0.02
send 15000
eventually "n2 went through epochs" 3 epoch_above 2 $((first + 4))
equal "packets that lacked an IV" 0 "$(dropped 2 iv_exhausted)"
between "packets that n2 sent" 14900 20000 "$(node_get 2 /metrics | awk '$1 == "anysa_packets_total{direction=\"out\"}" { print $2 }')"
say "renewal: n2 went from epoch $first to $(epoch_of 2) in 15,000 packets"
net_pin none
pings_end "renewal" 1 100

# 2. no grant to be had: n4 alone is no quorum for n2
for node in 1 3; do
    net_withdraw "$node"
    node_kill "$node"
done
eventually "n1 is dead" 3 is_dead_at 2 1
net_pin 2
mark=$(log_mark 2)
send 8000
check "n2 used up its IVs and stopped" test "$(dropped 2 iv_exhausted)" -gt 500
check "and says so" grep -q 'IVs of epoch .* are used up' <(log_since 2 "$mark")
check "and is not ready" not_ready_because 2 iv_exhausted
node_start 1
node_start 3
eventually "n1 and n3 are no grantors to n2: what they promised, rolled-back disks would have forgotten" 3 unsure_grantors 2
node_start 5 # with all others it is
for node in 1 2 3 5; do node_wait_ready "$node"; done
equal "with the others back it sends" "50 50" "$(inner_ping 1 50 0.01)"
net_pin none
check "n5 leaves again" node_stop 5
for node in 1 3; do net_announce "$node"; done

# 3. epoch 0
net_withdraw 2
node_kill 2
node_kill 1
eventually "both are dead" 3 is_dead_at 3 1
node_start 1
eventually "n1 gets no epoch" 5 not_ready_because 1 no_epoch
sleep 2
equal "n1: epoch" 0 "$(epoch_of 1)"
net_pin_ingress 1
check "c2 gets a tunnel from it" customer_up 2
net_pin 1
equal "which carries packets" "50 50" "$(inner_ping 2 50 0.01)"
node_start 2
node_wait_ready 2
node_wait_ready 1
equal "and goes on when an epoch is granted" "50 50" "$(inner_ping 2 50 0.01)"
equal "the older one, too" "50 50" "$(inner_ping 1 50 0.01)"
net_announce 2
net_pin none
net_pin_ingress none

# 4. by mistake
impostor_make
began=$(now_us)
impostor_start
eventually "the impostor stops" 3 gone impostor
say "impostor stopped $(ms $(($(now_us) - began))) ms after its start"
check "and says why" grep -q 'slot 1 is in use by another process' "$STATE/impostor/anysad.log"
equal "pings meanwhile and after" "50 50" "$(inner_ping 1 50 0.01)"
check "n1 goes on" node_ready 1

# 5. a copy, while the original is cut off
impostor_make
net_withdraw 1
cut_off 1 on
eventually "n1 is dead to the others" 5 is_dead_at 2 1
look_at_impostor yes
impostor_start
ready() { in_ns n5 curl -sf --max-time 2 http://127.0.0.1:8080/readyz >/dev/null; }
eventually "the copy gets an epoch of the others" 10 ready
check "n1 runs, cut off" running n1
cut_off 1 off
began=$(now_us)
eventually "n1 stops" 5 gone n1
took=$((($(now_us) - began) / 1000))
say "the lower epoch stopped $took ms after the heal"
check "and says why" grep -q 'slot 1 is in use by another process' <(node_log 1)
check "the copy goes on" running impostor
equal "pings" "50 50" "$(inner_ping 1 50 0.01)"
check "the copy still goes on" ready
end_process impostor TERM 5
capture_stop audit
report=$("$PYTHON" "$TESTS_LAB/audit_iv.py" "$STATE/audit.pcap" --min 19000) || fail "the audit says: $report"
say "$report"
test_end
