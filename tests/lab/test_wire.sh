#!/usr/bin/env bash
# No (key, IV) twice on the wire: five nodes of two lanes each seal a flood for two customers,
# packet by packet in turn, while both rekey and one node after the other
#
#   restart   ends and starts again
#   kill      kill -9, and starts again
#   rollback  kill -9, and starts again with its directory as it was a while ago
#   wipe      kill -9, and starts again with an empty directory
#   clone     is cut off; a copy of its directory, taken while it ran, starts elsewhere and sends, too;
#             after the heal the one with the lower epoch stops
#
# All that the nodes send is audited as it passes the router; none of it goes unseen.
#
#   ANYSA_WIRE_PACKETS=N   until so many were seen (default 200000; tests/long/wire: 10,000,000),
#                          and each of these happened at least once
# shellcheck source=tests/lab/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

PACKETS=${ANYSA_WIRE_PACKETS:-200000}
RATE=${ANYSA_WIRE_RATE:-15000} # a second, at most
LIMIT_S=$((60 + PACKETS / 2500))
NODES="1 2 3 4 5"
FLOOD=$BIN/../tests/bench/lab_flood
AUDIT=$BIN/../tests/bench/lab_audit
SEED=${SEED:-$((SRANDOM % 1000000))}
RANDOM=$((SEED % 32768))
declare -A HAPPENED=()

tell() { say "$(printf '%6.1f s  %9s packets  %s' "$(ms $((($(now_us) - began_us) / 1000)))" "$(seen)" "$*")"; }
seen() { grep -E '^[0-9]+$' "$STATE/audit.log" | tail -n 1; }
customers_ping() { [ "$(inner_ping "$1" 50 0.01)" = "50 50" ]; }

# ---------------------------------------------------------------- what happens to a node

# Directories as they are now, while their nodes run.
snapshot() {
    local i
    rm -rf "$STATE/snapshot"
    mkdir -p "$STATE/snapshot"
    for i in $NODES; do cp -a "$(node_dir "$i")/state" "$STATE/snapshot/n$i"; done
}
back() { node_start "$1"; node_wait_ready "$1" 20; }

do_restart() { node_stop "$1"; back "$1"; }
do_kill() { node_kill "$1"; back "$1"; }
do_rollback() {
    node_kill "$1"
    rm -rf "$(node_dir "$1")/state"
    cp -a "$STATE/snapshot/n$1" "$(node_dir "$1")/state"
    back "$1"
    snapshot
}
do_wipe() {
    node_kill "$1"
    rm -rf "$(node_dir "$1")/state"
    back "$1"
}

# clone NODE: its copy runs where n5 would
copy_ready() { in_ns n5 curl -sf --max-time 2 http://127.0.0.1:8080/readyz >/dev/null; }
copy_epoch() { in_ns n5 curl -s --max-time 2 http://127.0.0.1:8080/metrics | awk '$1 == "anysa_epoch" { print $2 }'; }
gone() { ! running "$1"; }
mesh_of() { # NODE on|off: its frames get through or not
    in_ns "n$1" nft -f - <<-RULES
	table inet cut {}
	delete table inet cut
	RULES
    [ "$2" = off ] || return 0
    in_ns "n$1" nft -f - <<-RULES
	table inet cut {
	    chain in  { type filter hook input priority 0;  tcp dport { 7800, 7801 } drop; tcp sport { 7800, 7801 } drop; }
	    chain out { type filter hook output priority 0; tcp dport { 7800, 7801 } drop; tcp sport { 7800, 7801 } drop; }
	}
	RULES
}
look_for() { # NODE yes|no: the others look for it where its copy is
    local i
    for i in 1 2 3 4; do
        in_ns "n$i" nft -f - <<-RULES
	table ip copy {}
	delete table ip copy
	RULES
        [ "$2" = yes ] && [ "$i" != "$1" ] || continue
        in_ns "n$i" nft -f - <<-RULES
	table ip copy {
	    chain out { type nat hook output priority -100; ip daddr 10.99.0.$1 dnat to 10.99.0.5; }
	}
	RULES
    done
}
do_clone() {
    local node=$1 copy="$STATE/copy" epoch healed
    node_stop 5
    rm -rf "$copy"
    cp -a "$(node_dir "$node")" "$copy"
    rm -f "$copy/anysad.log"
    sed -i "s/slot: 5, address: \"10.99.0.5:7800\"/slot: 5, address: \"10.99.0.55:7800\"/
            s/slot: $node, address: \"10.99.0.$node:7800\"/slot: $node, address: \"10.99.0.5:7800\"/" "$copy/node.yaml"
    epoch=$(node_metric "$node" anysa_epoch)
    mesh_of "$node" off
    look_for "$node" yes
    spawn copy "$STATE/copy.log" nsenter --net="$(ns_path n5)" -- "$BIN/anysad" --config "$copy/node.yaml"
    eventually "the copy of n$node is ready" 15 copy_ready
    check "the copy has a higher epoch" [ "$(copy_epoch)" -gt "$epoch" ]
    check "n$node runs and sends, too" running "n$node"
    sleep 1.5
    mesh_of "$node" on
    healed=$(now_us)
    eventually "n$node stops" 5 gone "n$node"
    say "           n$node stopped $((($(now_us) - healed) / 1000)) ms after the heal"
    check "and says why" grep -q "slot $node is in use by another process" <(node_log "$node")
    end_process copy TERM 5
    look_for "$node" no
    node_start 5
    back "$node"
    node_wait_ready 5 20
}

happen() { # KIND
    local node=$((RANDOM % 5 + 1))
    [ "$1" != clone ] || node=$((RANDOM % 4 + 1))
    "do_$1" "$node"
    HAPPENED[$1]=$((${HAPPENED[$1]:-0} + 1))
    tell "$1 n$node"
}

# The routers' part in making keys; a rekey that meets a dead owner may fail.
rekeys() {
    while [ ! -e "$STATE/over" ]; do
        for i in 1 2; do
            customer_rekey "$i" >/dev/null 2>&1 || true
            sleep 1
        done
    done
}

# ---------------------------------------------------------------- the audit can fail

plant() { # one packet, twice
    in_ns n1 "$PYTHON" - "$ANYCAST" "$(customer_addr 1)" <<-'SEND'
	import socket, struct, sys
	source, target = (socket.inet_aton(a) for a in sys.argv[1:3])
	esp = struct.pack(">II", 0xc0ffee00, 1) + bytes(range(8)) + bytes(40)
	udp = struct.pack(">HHHH", 4500, 4500, 8 + len(esp), 0) + esp
	ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
	with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
	    for _ in range(2):
	        s.sendto(ip + udp, (sys.argv[2], 0))
	SEND
}
audit_start() { # NAME
    spawn "$1" "$STATE/$1.log" nsenter --net="$(ns_path rtr)" -- "$AUDIT" "$ANYCAST"
    wait_until 5 grep -q listening "$STATE/$1.log" || fail "the audit does not start: $(cat "$STATE/$1.log")"
}
verdict() { tail -n 1 "$STATE/$1.log"; }
clean() { [[ "$(verdict "$1")" == *" 0 repeated, 0 not understood, 0 unseen" ]]; }

# ---------------------------------------------------------------- the run

test_begin wire "$((LIMIT_S + 60))"
[ -x "$AUDIT" ] && [ -x "$FLOOD" ] || fail "no $AUDIT: build the benches, too"
export NODE_LANES=2
lab_begin 5 2
net_up
config_begin
config_end
for node in $NODES; do node_start "$node"; done
for node in $NODES; do node_wait_ready "$node"; done
for customer in 1 2; do customer_start "$customer"; done
net_no_offload
net_spray on
net_egress_spray on
for customer in 1 2; do check "c$customer: tunnel" customer_up "$customer"; done
# The customers need not open all of it.
in_ns rtr nft -f - <<-RULES
	table ip flood {
	    chain forward {
	        type filter hook forward priority 0; policy accept;
	        ip saddr $ANYCAST udp sport 4500 @th,64,32 != 0 meta length < 200 limit rate over 300/second burst 100 packets drop
	    }
	}
RULES
audit_start audit
began_us=$(now_us)
snapshot
rekeys &
rekeyer=$!
spawn flood "$STATE/flood.log" nsenter --net="$(ns_path inner)" -- \
    "$FLOOD" $((PACKETS * 20)) $((LIMIT_S + 30)) "$RATE" "$(customer_host 1)" "$(customer_host 2)"
deadline=$((SECONDS + LIMIT_S))
first="restart kill rollback wipe clone"
while [ "$(seen)" -lt "$PACKETS" ] || [ -n "$first" ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "only $(seen) packets in $LIMIT_S s"
    if [ -n "$first" ]; then
        kind=${first%% *}
        first=${first#"$kind"}
        first=${first# }
    else
        kinds=(restart kill kill rollback rollback wipe clone)
        kind=${kinds[RANDOM % ${#kinds[@]}]}
    fi
    happen "$kind"
    sleep 1
done
end_process flood TERM
: >"$STATE/over"
wait "$rekeyer"
in_ns rtr nft delete table ip flood
for customer in 1 2; do eventually "c$customer: all pings" 10 customers_ping "$customer"; done
sleep 0.5
end_process audit TERM 10
say "$(grep -v '^[0-9]*$' "$STATE/audit.log")"
for kind in "${!HAPPENED[@]}"; do say "$kind: ${HAPPENED[$kind]} times"; done
check "every IV under its key once: $(verdict audit)" clean audit
lanes=$(sed -n 's/^slot \([0-9]*\) epoch [1-9][0-9]* lane \([0-9]\):.*/\1.\2/p' "$STATE/audit.log" | sort -u | paste -sd' ')
equal "slots and lanes that sent" "1.0 1.1 2.0 2.1 3.0 3.1 4.0 4.1 5.0 5.1" "$lanes"
rekeyed=$(cat "$STATE"/n*/anysad.log | grep -c 'rekeyed to' || true)
check "keys were renewed meanwhile" [ "$rekeyed" -ge 5 ]
audit_start planted
check "the same packet is sent twice" plant
sleep 0.5
end_process planted TERM 10
if clean planted; then fail "the audit does not see a repetition: $(verdict planted)"; fi
check "and names it" grep -q 'REPEATED: ESP SPI 0xc0ffee00' "$STATE/planted.log"
test_end
