#!/usr/bin/env bash
# A router that the owner of its IKE SA does not hear, one that nobody hears, and one
# whose owner is gone.
#
#   1. ESP reaches another node alone: the owner asks the members, not the router
#   2. IKE is cut off for c1 and c2. c1 goes on sending ESP: it keeps its SA.
#      c2 sends nothing: its SA is deleted, everywhere, once all tries are over
#   3. c3 says nothing and its owner dies: another node adopts the SA and asks c3
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

owners() { # CUSTOMER: what the live nodes say, each once
    local i
    for i in $(alive_nodes); do
        node_list "$i" /v1/ike-sas | jq -rs --arg t "$(tunnel_id "c$1")" '[.[] | select(.tunnel_id == $t).owner][0] // "none"'
    done | sort -u | paste -sd ' '
}
owned_by() { [ "$(owners "$1")" = "$2" ]; }
asked() { customer_log "$1" | grep -c 'parsed INFORMATIONAL request' || true; } # CUSTOMER
was_asked() { [ "$(asked "$1")" -gt 0 ]; }
timeouts() { local i n=0; for i in $(alive_nodes); do n=$((n + $(node_metric "$i" anysa_ike_timeouts_total))); done; echo "$n"; }

cut_ike() { # CUSTOMER: at its own door, both ways; its ESP lacks the non-ESP marker and passes
    in_ns "c$1" nft -f - <<-RULES
	table inet cut {
	    chain in  { type filter hook input priority 0;  udp dport 4500 @th,64,32 0 drop; }
	    chain out { type filter hook output priority 0; udp dport 4500 @th,64,32 0 drop; }
	}
	RULES
}

establish() { # CUSTOMER NODE
    net_pin_ingress "$2"
    check "c$1 gets a tunnel" customer_up "$1"
    eventually "c$1: n$2 owns it" 3 owned_by "$1" "$2"
}

test_begin silence 150
lab_begin 3 3
NODE_DPD=3
net_up
config_begin
config_end
for node in 1 2 3; do node_start "$node"; done
for node in 1 2 3; do node_wait_ready "$node"; done
for customer in 1 2 3; do customer_start "$customer"; done
establish 1 1
establish 2 1
establish 3 3
net_pin_ingress 2
pings_start 1 0.2
sleep 1
heard=$(asked 1)
eventually "c2 is silent: the owner asks it" 10 was_asked 2
sleep 8
equal "c1 is heard by n2 alone: requests to it" "$heard" "$(asked 1)"
between "rounds of questions" 2 99 "$(node_metric 1 anysa_activity_rounds_total)"

cut_ike 1
cut_ike 2
net_withdraw 3
node_kill 3
began=$SECONDS
silent3=$(asked 3)
adopted_3() { [[ $(owners 3) =~ ^[12]$ ]]; }
asked_3() { [ "$(asked 3)" -gt "$silent3" ]; }
eventually "c3: a live node adopts its SA" 50 adopted_3
say "c3: adopted after $((SECONDS - began)) s"
eventually "c3: and asks it" 10 asked_3
equal "c3: still there" 3 "$(node_list 1 /v1/ike-sas | jq -s length)"
eventually "c2: deleted everywhere" 60 owned_by 2 none
between "c2: not before its tries were over" 60 90 "$((SECONDS - began))"
say "c2: deleted after $((SECONDS - began)) s"
sleep 5
equal "c1: kept" 1 "$(owners 1)"
equal "time-outs" 1 "$(timeouts)"
pings_end "c1" 1 300
test_end
