#!/usr/bin/env bash
# The owner of an IKE SA dies, and nobody renegotiates: whichever node gets the router's
# next message goes on with the SA.
#
#   1. kill -9 of the owner, then from the router: a liveness check, a Child rekey, an IKE
#      rekey with PFS, a DELETE; message IDs go on
#   2. kill -9 while rekeys are under way, at random moments
#   3. the old owner returns, and does not fight
#   4. an owner that stood still for 2 s wakes up, and does not fight either
#   5. drain: another node has the SAs within a second; SIGTERM likewise
#
# Pings run both ways all the while, sprayed over the nodes in service; none is lost.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

owner_of() { # CUSTOMER: the slot that every live node names
    local i id
    id=$(tunnel_id "c$1")
    for i in $(alive_nodes); do
        node_list "$i" /v1/ike-sas | jq -r --arg t "$id" 'select(.tunnel_id == $t).owner'
    done | sort -u | paste -sd ' '
}
owner_is_not() { local o; o=$(owner_of "$1"); [ -n "$o" ] && [[ "$o" != *" "* ]] && [ "$o" != "$2" ]; }
handshakes() { customer_log "$1" | grep -c 'generating IKE_SA_INIT request' || true; }
established() { local i n=0; for i in 1 2 3; do n=$((n + $(node_log "$i" | grep -c 'IKE SA .* established' || true))); done; echo "$n"; }
adopted() { local i n=0; for i in $(alive_nodes); do n=$((n + $(node_metric "$i" anysa_ike_adopted_total))); done; echo "$n"; }
rekeys() { customer_log "$1" | grep -cE 'inbound CHILD_SA|IKE_SA gw\[[0-9]+\] rekeyed|established with SPIs' || true; }
dead_to_all() { local i; for i in $(alive_nodes); do [ "$(node_list "$i" /v1/nodes | jq -r --argjson s "$1" 'select(.slot == $s).state')" = dead ] || return 1; done; }
one_of_each() { [ "$(customer_children "$1")" -eq 1 ] && [ "$(customer_swanctl "$1" --list-sas | grep -c '^gw:')" -eq 1 ]; }
rekey() { # CUSTOMER WHAT...: until strongSwan has finished, DELETEs included
    local c=$1
    shift
    customer_swanctl "$c" --rekey "$@" >/dev/null && sleep 0.2 && wait_until 8 one_of_each "$c"
}
spi_of() { customer_swanctl "$1" --list-sas | grep '^gw:' | head -n 1 | grep -oE '[0-9a-f]{16}_r' ; }
# the installed one: strongSwan shows a deleted one for 5 s more
child_of() { customer_swanctl "$1" --list-sas | awk '/^ *net: /{ here = /INSTALLED/ } here && $1 == "in" { sub(",", "", $2); print $2; exit }'; }
changed() { [ -n "$($1 "$2")" ] && [ "$($1 "$2")" != "$3" ]; } # FUNCTION CUSTOMER BEFORE

kill_owner() { # CUSTOMER: prints the slot
    local o
    o=$(owner_of "$1")
    net_withdraw "$o"
    node_kill "$o"
    printf '%s\n' "$o"
}
bring_back() { node_start "$1"; node_wait_ready "$1"; net_announce "$1"; }

begin_pings() { # CUSTOMER COUNT
    inner_ping "$1" "$2" 0.01 >"$STATE/inner.ping" &
    inner_job=$!
    customer_ping "$1" "$2" 0.01 >"$STATE/customer.ping" &
    customer_job=$!
}
end_pings() { # WHAT COUNT
    wait "$customer_job" || true
    wait "$inner_job" || true
    equal "$1: pings of the customer" "$2 $2" "$(cat "$STATE/customer.ping")"
    equal "$1: pings of the inner host" "$2 $2" "$(cat "$STATE/inner.ping")"
}

alive_peer() { customer_swanctl "$1" --list-sas | grep -q ESTABLISHED; }

after_a_kill() { # WHAT COMMAND...: the router's next message after kill -9
    local what=$1 dead terms
    shift
    dead=$(kill_owner 1)
    check "$what" "$@"
    eventually "$what: a live node owns it" 5 owner_is_not 1 "$dead"
    between "$what: adoptions" 1 9 "$(adopted)"
    terms=$(node_list "$(alive_nodes | cut -d' ' -f1)" /v1/ike-sas | jq -r --arg t "$(tunnel_id c1)" 'select(.tunnel_id == $t).term')
    between "$what: the term has risen or is a new SA's" 1 99 "$terms"
    bring_back "$dead"
    eventually "$what: all nodes show the same SAs" 5 same_sas
    check "$what: the returned owner is not the owner" owner_is_not 1 "$dead"
    say "$what: n$dead died, n$(owner_of 1) went on"
}
child_rekey() { local before; before=$(child_of 1); rekey 1 --child net && wait_until 5 changed child_of 1 "$before"; }
ike_rekey() { local before; before=$(spi_of 1); rekey 1 --ike gw && wait_until 5 changed spi_of 1 "$before"; }
# DPD every second: five in a row are answered, or charon would have given up
liveness() { sleep 5 && alive_peer 1; }

at_random_moments() {
    local i dead before
    for i in $(seq 4); do
        before=$(child_of 1)
        customer_swanctl 1 --rekey --child net >/dev/null &
        sleep "0.00$((RANDOM % 10))"
        dead=$(kill_owner 1)
        check "random $i: the rekey completes" wait_until 10 changed child_of 1 "$before"
        check "random $i: the old one goes" wait_until 10 one_of_each 1
        wait $! || true
        bring_back "$dead"
    done
    eventually "random: all nodes show the same SAs" 5 same_sas
}

standing_still() {
    local o before pid
    o=$(owner_of 1)
    before=$(child_of 1)
    net_withdraw "$o"
    pid=$(pid_of "n$o")
    kill -STOP "$pid"
    sleep 1
    check "standing still: another node answers" child_rekey
    eventually "standing still: and owns it" 5 owner_is_not 1 "$o"
    kill -CONT "$pid"
    net_announce "$o"
    sleep 0.5
    eventually "standing still: all nodes agree" 5 same_sas
    check "standing still: it does not fight" owner_is_not 1 "$o"
    check "standing still: rekeys go on" child_rekey
    [ "$before" != "$(child_of 1)" ] || fail "standing still: no rekey"
}

draining() {
    local o
    o=$(owner_of 1)
    net_withdraw "$o"
    check "drain" in_ns "n$o" "$BIN/anysa" drain
    equal "drain: readiness" '["draining"]' "$(node_not_ready_because "$o")"
    eventually "drain: another node owns the SA" 2 owner_is_not 1 "$o"
    check "drain: it answers" child_rekey
    check "resume" in_ns "n$o" "$BIN/anysa" resume
    eventually "resume: ready" 2 node_ready "$o"
    net_announce "$o"
    o=$(owner_of 1)
    net_withdraw "$o"
    check "SIGTERM: exit" node_stop "$o"
    check "SIGTERM: another node owns the SA at once" owner_is_not 1 "$o"
    check "SIGTERM: it answers" child_rekey
    bring_back "$o"
}

test_begin adoption 150
lab_begin 3 2
net_up
config_begin
config_end
for node in 1 2 3; do node_start "$node"; done
for node in 1 2 3; do node_wait_ready "$node"; done
C_DPD=1 C_IKE=aes256gcm16-prfsha256-modp2048 C_ESP=aes256gcm16-modp1536 customer_start 1
customer_start 2
net_spray on
net_egress_spray on
check "c1 gets a tunnel" customer_up 1
began=$SECONDS
after_a_kill "liveness check" liveness # before the pings: where ESP comes in, nobody asks
begin_pings 1 "${ADOPTION_PINGS:-3000}"
after_a_kill "Child rekey" child_rekey
after_a_kill "IKE rekey" ike_rekey
at_random_moments
standing_still
draining
end_pings "all the while" "${ADOPTION_PINGS:-3000}"
equal "IKE_SA_INITs of c1" 1 "$(handshakes 1)"
check "c2 gets a tunnel" customer_up 2
dead=$(kill_owner 2)
check "DELETE" customer_down 2
gone() { [ -z "$(owner_of 2)" ]; }
eventually "DELETE: no node has the SA" 5 gone
bring_back "$dead"
check "DELETE: nor the one that was dead" gone
equal "IKE SAs ever established" 2 "$(established)"
say "$((SECONDS - began)) s"
test_end
