#!/usr/bin/env bash
# ECMP rehashes in the middle of an exchange: the next message meets another node, and the
# exchange completes all the same.
#
#   1. IKE_SA_INIT here, IKE_AUTH there: from 500, on 4500, with answers lost, after
#      INVALID_KE_PAYLOAD, after COOKIE, after both
#   2. rekeys by the router: the request here, its DELETE there; with answers lost
#   3. rekeys by the node: the request leaves here, the answer arrives there
#   4. a storm: every flow moves on 20 to 50 times a second during 20 handshakes and 20 rekeys
#
# In 1 to 3 the router looks at the IKE header to choose the node, so that each case is the
# same every time; ESP is sprayed. The nodes' counters tell who passed IKE messages on:
# exactly those that the case sends them to. In 4 it is ECMP and nothing else.
#
# The nodes of 1 to 4 have long lives and ask for no cookies; in 3 and for COOKIE they run
# again with the shortest lives, and always ask.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

C_RETRANSMIT=0.5
STORM_HANDSHAKES=20 # at least, and
STORM_HANDSHAKES_MAX=150
STORM_PASSED_ON=5 # by each node; the one that owns the SA of c1 gets just what the handshakes bring
STORM_REKEYS=20

# ---------------------------------------------------------------- a router that reads IKE headers

declare -A EXCHANGE=([INIT]=34 [AUTH]=35 [CREATE]=36 [INFO]=37)
MARK=300 # + node

rehash_routes() {
    local i
    for i in $(all_nodes); do
        ip -n "$(ns rtr)" route replace default via "10.98.$i.1" dev "n$i" table $((MARK + i))
        ip -n "$(ns rtr)" rule add fwmark $((MARK + i)) lookup $((MARK + i))
    done
}

rehash_off() { in_ns rtr nft delete table ip rehash 2>/dev/null || true; }

# rehash_begin: all IKE messages to n1, until more is said; the last word counts
rehash_begin() {
    rehash_off
    in_ns rtr nft -f - <<NFT
table ip rehash {
    chain towards { # stronger than spray
        type filter hook prerouting priority mangle + 2; policy accept;
        ip daddr $ANYCAST udp dport 500 meta mark set $((MARK + 1))
        ip daddr $ANYCAST udp dport 4500 @th,64,32 0 meta mark set $((MARK + 1))
    }
    chain back { type filter hook forward priority filter; policy accept; }
}
NFT
}

# ike_message CHAIN PORT-MATCH EXCHANGE request|response STATEMENT: the exchange type is octet 18
# of the IKE header and the flags are octet 19, after 8 of UDP and on 4500 the marker's 4
ike_message() {
    local response=0
    [ "$4" = request ] || response=32
    in_ns rtr nft -f - <<NFT
add rule ip rehash $1 $2 500 @th,208,8 ${EXCHANGE[$3]} @th,216,8 & 32 == $response $5
add rule ip rehash $1 $2 4500 @th,64,32 0 @th,240,8 ${EXCHANGE[$3]} @th,248,8 & 32 == $response $5
NFT
}

# goes EXCHANGE request|response NODE...: the customer's messages of this kind, in turn
goes() {
    local exchange=$1 kind=$2 map="" turn=0 i
    shift 2
    for i in "$@"; do map+="$turn : $((MARK + i)), "; turn=$((turn + 1)); done
    ike_message towards "ip daddr $ANYCAST udp dport" "$exchange" "$kind" \
        "meta mark set numgen inc mod $turn map { ${map%, } }"
}

# loses EXCHANGE request|response: the cluster's first message of this kind
loses() { ike_message back "ip saddr $ANYCAST udp sport" "$1" "$2" "numgen inc mod 10000 0 drop"; }

# ---------------------------------------------------------------- cases

CASE=""
ESTABLISHED=0

case_begin() {
    local i
    CASE=$1
    rehash_begin
    ESTABLISHED=$(logged 'IKE SA .* established')
    for i in $(all_nodes); do node_get "$i" /metrics >"$STATE/before.$i"; done
}

# rose NODE SERIES: since case_begin
rose() {
    echo $(($(node_metric "$1" "$2") - $(awk -v s="$2" '$1 == s { v = $2 } END { printf "%d", v }' "$STATE/before.$1")))
}

# passed_on_by "NODE...": these nodes forwarded IKE messages and no others did. An SA is
# replaced before its DELETE is answered, so there may be one more to come.
passed_on_by() {
    local i
    for i in $1; do eventually "$CASE: n$i passed messages on" 3 has_passed_on "$i"; done
    for i in $(all_nodes); do
        [[ " $1 " == *" $i "* ]] || equal "$CASE: messages that n$i passed on" 0 "$(rose "$i" anysa_forwarded_total)"
    done
}
has_passed_on() { [ "$(rose "$1" anysa_forwarded_total)" -ge 1 ]; }

owner() { node_list 1 /v1/ike-sas | jq -r --arg t "$(tunnel_id c1)" 'select(.tunnel_id == $t) | .owner'; }

# handshake NAME OWNER PASSED-ON-BY: the customer's, after case_begin and goes
handshake() {
    check "$CASE: tunnel" customer_up 1
    equal "$CASE: owner" "$1" "$(owner)"
    equal "$CASE: handshakes" 1 $(($(logged 'IKE SA .* established') - ESTABLISHED))
    passed_on_by "$2"
    check "$CASE: n$1 got what they passed on" [ "$(rose "$1" anysa_forwarded_in_total)" -ge 1 ]
    equal "$CASE: pings" "5 5" "$(customer_ping 1 5 0.01)"
    say "ok  $CASE"
}
close_tunnel() {
    check "$CASE: the customer closes" customer_down 1
    eventually "$CASE: no SA is left" 5 every_node no_sas
}

handshakes() {
    case_begin "from 500, IKE_AUTH elsewhere"
    goes INIT request 1
    goes AUTH request 2
    handshake 1 2
    close_tunnel

    C_PORT=4500 customer_config 1
    case_begin "on 4500, IKE_AUTH elsewhere"
    goes INIT request 3
    goes AUTH request 2
    handshake 3 2
    close_tunnel
    customer_config 1

    case_begin "the answer to IKE_SA_INIT lost, once more elsewhere"
    goes INIT request 1 2
    loses INIT response
    goes AUTH request 3
    handshake 2 3
    equal "$CASE: n1 is left with a half-open SA" 1 "$(node_metric 1 anysa_ike_half_open)"
    close_tunnel

    case_begin "the answer to IKE_AUTH lost, once more elsewhere"
    goes AUTH request 2 3
    loses AUTH response
    handshake 1 "2 3"
    check "$CASE: n1 repeated its answer" [ "$(rose 1 anysa_ike_retransmits_total)" -ge 1 ]
    close_tunnel

    C_IKE=aes256gcm16-prfsha256-modp3072-modp2048 customer_config 1
    case_begin "another group after INVALID_KE_PAYLOAD, elsewhere"
    goes INIT request 1 2
    goes AUTH request 3
    handshake 2 3
    equal "$CASE: groups refused" 1 "$(customer_log 1 | grep -c 'requested MODP_2048')"
    close_tunnel
}

# router_rekey NAME ike|child PASSED-ON-BY: after case_begin and goes
router_rekey() {
    local before
    before=$(logged "rekeyed to")
    check "$CASE: rekey" router_rekeys 1 "$1"
    equal "$CASE: rekeys" 1 $(($(logged "rekeyed to") - before))
    equal "$CASE: owner" 1 "$(owner)"
    passed_on_by "$2"
    eventually "$CASE: all nodes show the same SAs" 5 same_sas
    say "ok  $CASE"
}

rekeys_by_the_router() {
    local kind
    C_ESP=aes256gcm16-modp2048 customer_config 1
    case_begin "a tunnel of n1's"
    goes AUTH request 2
    handshake 1 2
    pings_start 1 0.01
    for kind in child ike; do
        case_begin "the router's $kind rekey, DELETE elsewhere"
        goes CREATE request 2
        goes INFO request 3
        router_rekey "$kind" "2 3"

        case_begin "the router's $kind rekey, answer lost, once more elsewhere"
        goes CREATE request 2 3
        loses CREATE response
        router_rekey "$kind" "2 3"
        check "$CASE: n1 repeated its answer" [ "$(rose 1 anysa_ike_retransmits_total)" -ge 1 ]

        case_begin "the router's $kind rekey, answer to DELETE lost, once more elsewhere"
        goes INFO request 3 2
        loses INFO response
        router_rekey "$kind" "2 3"
    done
    pings_end "rekeys by the router" 1 100
    close_tunnel
}

# ---------------------------------------------------------------- storm

# storm_blows: until the file is gone, each flow moves on to the next node, both ways, every
# 20 to 50 ms: what net_rehash does, without a process for each time
storm_blows() {
    local turns=0 n i
    local -a towards back
    n=$(node_count)
    while [ "$turns" -lt "$n" ]; do
        towards[turns]="route replace $ANYCAST/32"
        back[turns]="route replace $CUSTOMER_NETS"
        for i in $(seq "$n"); do
            i=$(((i + turns) % n + 1))
            towards[turns]+=" nexthop via 10.98.$i.1 dev n$i"
            back[turns]+=" nexthop via 10.97.$i.1 dev n$i"
        done
        turns=$((turns + 1))
    done
    turns=0
    while [ -e "$STATE/storm" ]; do
        echo "${towards[turns % n]}" >&3
        echo "${back[turns % n]}" >&4
        turns=$((turns + 1))
        echo "$turns" >"$STATE/storm.turns"
        sleep "0.0$((RANDOM % 4 + 2))"
    done 3> >(ip -n "$(ns rtr)" -batch -) 4> >(ip -n "$(ns irtr)" -batch -)
}

all_passed_on() {
    local i
    for i in $(all_nodes); do
        [ "$(rose "$i" anysa_forwarded_total)" -ge "$STORM_PASSED_ON" ] || return 1
    done
}

storm_of_handshakes() { # of c2; leaves how many there were
    local n
    for n in $(seq "$STORM_HANDSHAKES_MAX"); do
        if [ "$n" -gt "$STORM_HANDSHAKES" ] && all_passed_on; then break; fi
        echo "$n" >"$STATE/storm.handshakes"
        customer_up 2 || { echo "handshake $n failed" >&2; return 1; }
        [ "$(customer_ping 2 5 0.01)" = "5 5" ] || { echo "after handshake $n pings were lost" >&2; return 1; }
        customer_down 2 || { echo "handshake $n: no end" >&2; return 1; }
    done
}

storm_of_rekeys() { # of c1
    local n
    for n in $(seq "$STORM_REKEYS"); do
        if [ $((n % 5)) -ne 0 ]; then router_rekeys 1 child; else router_rekeys 1 ike; fi || return 1
    done
}

storm() {
    local began blower handshakes rekeyed i passed="" took
    case_begin storm
    rehash_off
    net_spray off
    net_egress_spray off
    check "storm: tunnel of c1" customer_up 1
    pings_start 1 0.01
    rekeyed=$(logged "rekeyed to")
    : >"$STATE/storm"
    began=$(now_us)
    storm_blows &
    blower=$!
    storm_of_handshakes &
    handshakes=$!
    check "storm: $STORM_REKEYS rekeys" storm_of_rekeys
    check "storm: handshakes" wait "$handshakes"
    rm "$STATE/storm"
    wait "$blower"
    took=$((($(now_us) - began) / 1000))
    pings_end storm 1 100
    equal "storm: handshakes of c1" 1 "$(established_since_before c1)"
    equal "storm: handshakes of c2" "$(cat "$STATE/storm.handshakes")" "$(established_since_before c2)"
    equal "storm: rekeys" "$STORM_REKEYS" $(($(logged "rekeyed to") - rekeyed))
    for i in $(all_nodes); do
        between "storm: messages that n$i passed on" "$STORM_PASSED_ON" 1000 "$(rose "$i" anysa_forwarded_total)"
        passed+=" $(rose "$i" anysa_forwarded_total)"
    done
    between "storm: ms from one rehash to the next" 20 100 $((took / $(cat "$STATE/storm.turns")))
    close_tunnel
    say "ok  storm: $(cat "$STATE/storm.handshakes") handshakes, $STORM_REKEYS rekeys, $(cat "$STATE/storm.turns") rehashes in $took ms; IKE messages passed on by the nodes:$passed"
    net_spray on
    net_egress_spray on
}
established_since_before() { # NAME OF TUNNEL
    echo $(($(logged "IKE SA .* established .*tunnel=$(tunnel_id "$1") ") - ${STORM_BEFORE[$1]}))
}
declare -A STORM_BEFORE

# ---------------------------------------------------------------- short lives, cookies always

nodes_again() { # with SED-SCRIPT over their configuration
    local i
    for i in $(all_nodes); do
        node_stop "$i"
        sed -i "$1" "$(node_dir "$i")/node.yaml"
    done
    for i in $(all_nodes); do node_start "$i"; done
    for i in $(all_nodes); do node_wait_ready "$i"; done
}

cookies() {
    case_begin "back with a COOKIE, elsewhere"
    goes INIT request 1 2 2 2 # should one be sent again
    goes AUTH request 3
    handshake 2 3
    check "$CASE: n1 asked for it" [ "$(rose 1 anysa_ike_cookies_total)" -ge 1 ]
    equal "$CASE: n2 asked" 0 "$(rose 2 anysa_ike_cookies_total)"
    close_tunnel

    C_IKE=aes256gcm16-prfsha256-modp3072-modp2048 customer_config 1
    case_begin "COOKIE here, INVALID_KE_PAYLOAD there, the third one negotiates"
    goes INIT request 1 2 3 3
    goes AUTH request 1
    handshake 3 1
    equal "$CASE: cookies asked for" "1 0 0" "$(for i in 1 2 3; do rose "$i" anysa_ike_cookies_total; done | paste -sd ' ')"
    close_tunnel
}

rekeys_by_the_node() {
    C_ESP=aes256gcm16-modp2048 customer_config 1
    case_begin "a tunnel of n1's"
    goes AUTH request 2
    handshake 1 2
    pings_start 1 0.01
    case_begin "the node's rekeys, answers elsewhere, the first one lost"
    in_ns rtr nft add rule ip rehash towards \
        udp dport 4500 @th,64,32 0 @th,240,8 36 "@th,248,8 & 32 == 32" numgen inc mod 10000 0 drop
    goes CREATE response 2 3
    goes INFO response 3 2
    eventually "$CASE: a Child SA" 15 logged_one 'Child SA .* rekeyed by us'
    eventually "$CASE: the IKE SA" 15 logged_one 'IKE SA .* rekeyed by us'
    eventually "$CASE: one SA of each kind is left" 5 one_sa_each 1
    equal "$CASE: owner" 1 "$(owner)"
    passed_on_by "2 3"
    check "$CASE: n1 repeated its request" [ "$(customer_log 1 | grep -c 'received retransmit of request')" -ge 1 ]
    eventually "$CASE: all nodes show the same SAs" 5 same_sas
    pings_end "$CASE" 1 100
    equal "$CASE: handshakes" 0 $(($(logged 'IKE SA .* established') - ESTABLISHED))
    say "ok  $CASE"
    close_tunnel
}
logged_one() { [ "$(logged "$1")" -ge 1 ]; }

test_begin rehash 110
lab_begin 3 2
net_up
config_begin
config_end
lab_start
rehash_routes
net_spray on
net_egress_spray on
handshakes
rekeys_by_the_router
STORM_BEFORE=([c1]=$(logged "established .*tunnel=$(tunnel_id c1) suite=.* nat=") [c2]=0)
storm
nodes_again 's/half_open_cookie_threshold: .*}/half_open_cookie_threshold: 0}/; s/child_lifetime_s: [0-9]*/child_lifetime_s: 10/; s/ lifetime_s: [0-9]*/ lifetime_s: 12/'
customer_config 1
cookies
rekeys_by_the_node
test_end
