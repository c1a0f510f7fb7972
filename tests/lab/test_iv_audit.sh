#!/usr/bin/env bash
# No (SPI, IV) is ever used twice: a capture of over 100,000 sprayed packets, with one
# node killed and restarted in between, so that three nodes and two incarnations of
# one of them send under one key.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

PACKETS=105000   # towards the customer, from all nodes
PER_SECOND=20000

test_begin iv_audit 90
"$PYTHON" "$TESTS_LAB/audit_iv.py" --self-test || fail "the audit cannot fail"
lab_up 3 1 no
net_spray on
net_egress_spray on
net_no_offload
capture_start audit rtr "$STATE/audit.pcap" 'udp port 500 or udp port 4500 or esp'
check "the customer gets a tunnel" customer_up 1

send() { in_ns inner "$PYTHON" "$TESTS_LAB/send_udp.py" "$(customer_host 1)" 9 "$1" "$PER_SECOND"; }
send $((PACKETS / 2))
customer_ping 1 2000 0.001 || true # the other direction, too
customer_rekey 1
net_withdraw 2
node_kill 2
node_start 2
node_wait_ready 2
net_announce 2
send $((PACKETS / 2))
equal "pings after the restart" "100 100" "$(customer_ping 1 100 0.01)"
capture_stop audit

report=$("$PYTHON" "$TESTS_LAB/audit_iv.py" "$STATE/audit.pcap" --min 100000) || fail "the audit says: $report"
say "$report"
check "slots 1 and 3 sent under one epoch, slot 2 under two" \
    test "$(sed -n 's/^slot \([0-9]*\) epoch.*/\1/p' <<<"$report" | paste -sd ' ')" = "1 2 2 3"
if "$PYTHON" "$TESTS_LAB/audit_iv.py" "$STATE/audit.pcap" --repeat-one >/dev/null; then
    fail "the audit does not find a repetition put into this capture"
fi
test_end
