#!/usr/bin/env bash
# Many rekeys in a row, in four places at once, under pings that are sprayed packet by
# packet both ways: none is lost and nobody renegotiates.
#
#   c1  starts on 500 and floats to 4500       c3  the same, behind a NAT
#   c2  starts on 4500                         c4  the same, behind a NAT
#
# Each has one lineage for a whole pass, with PFS: first the router rekeys, every fourth
# time the IKE SA, then the lifetimes are left to run and the nodes rekey, Child SA and IKE
# SA. Which rekeys were done is read from the router's log and has to agree with the nodes'.
# In the first pass c1 and c4 use group 14 and the others group 5, in a second one vice versa.
#
#   ANYSA_REKEYS=N   at least so many in each lineage (default 12; tests/long/rekeys: 200)
#   ANYSA_PASSES=N   1 or 2 (default 1)
# shellcheck source=tests/lab/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

REKEYS=${ANYSA_REKEYS:-12}
BY_ROUTER=$((REKEYS * 4 / 5))
BY_NODES=$((REKEYS - BY_ROUTER))
CELLS="1 2 3 4"

# A Child SA is rekeyed by its owner after 8 to 9 s, an IKE SA after 10 to 11 s.
NODE_CHILD_LIFETIME=10
NODE_LIFETIME=12
C_NAT="3 4"

declare -A NAMES=([1]="500, no NAT" [2]="4500, no NAT" [3]="500, NAT" [4]="4500, NAT")

# ---------------------------------------------------------------- the router's view

# exchanges CUSTOMER router|nodes ike|child: CREATE_CHILD_SA exchanges that made an SA, in this pass
exchanges() {
    local answer="parsed" what="SA No KE TSi TSr"
    [ "$2" = router ] || answer="generating"
    [ "$3" = child ] || what="SA No KE"
    pass_log "$1" | grep -cE "$answer CREATE_CHILD_SA response [0-9]+ \[ $what \]" || true
}
pass_log() { customer_log "$1" | tail -n "+$((${log_from[$1]} + 1))"; }
declare -A log_from

# ---------------------------------------------------------------- the two halves of a pass

routers_part() { # CUSTOMER
    local n
    for n in $(seq "$BY_ROUTER"); do
        if [ $((n % 4)) -ne 0 ]; then router_rekeys "$1" child; else router_rekeys "$1" ike; fi || return 1
    done
}

nodes_have_rekeyed() { # CUSTOMER
    local child ike
    child=$(exchanges "$1" nodes child)
    ike=$(exchanges "$1" nodes ike)
    [ "$child" -ge 1 ] && [ "$ike" -ge 1 ] && [ $((child + ike)) -ge "$BY_NODES" ]
}

in_all_cells() { # COMMAND: with each customer, side by side
    local i failed=""
    local -A jobs
    for i in $CELLS; do "$1" "$i" & jobs[$i]=$!; done
    for i in $CELLS; do wait "${jobs[$i]}" || failed+=" c$i"; done
    [ -z "$failed" ] || { echo "$1 failed:$failed" >&2; return 1; }
}

# ---------------------------------------------------------------- checks

tunnel_sas() { node_list 1 "$2" | jq -r --arg t "$(tunnel_id "c$1")" "select(.tunnel_id == \$t) | $3"; }
lineage() { tunnel_sas "$1" /v1/ike-sas .lineage; }

starts_as_meant() { # CUSTOMER: the port it began on, and what the nodes see of it
    local on_500 peer
    on_500=$(pass_log "$1" | grep -cE 'sending packet: from [0-9.]+\[500\]' || true)
    peer=$(tunnel_sas "$1" /v1/ike-sas .peer)
    case "$1" in
        1 | 3) check "c$1 began on 500" [ "$on_500" -gt 0 ] ;;
        *)     equal "c$1: packets from 500" 0 "$on_500" ;;
    esac
    case "$1" in
        1 | 2) equal "c$1 is seen as" "$(customer_addr "$1"):4500" "$peer" ;;
        *)     check "c$1 is seen through its NAT, not as $peer" [ "$((${peer#*:} / 10000))" = 2 ] ;;
    esac
}

forwarded() { local i; for i in $(all_nodes); do node_metric "$i" anysa_forwarded_total; done | paste -sd ' '; }
carried() { local i; for i in $(all_nodes); do node_packets "$i" "$1"; done | paste -sd ' '; }

each_rose() { # WHAT LEAST BEFORE AFTER
    local -a before after
    local i
    read -r -a before <<<"$3"
    read -r -a after <<<"$4"
    for i in "${!after[@]}"; do
        check "$1 of n$((i + 1)): ${before[i]} -> ${after[i]}" [ $((after[i] - before[i])) -ge "$2" ]
    done
}

# counts_agree ROUTERS-BEFORE NODES-BEFORE: of the nodes' logs; while rekeys go on they may not
counts_agree() {
    local i router=0 nodes=0 kind
    for i in $CELLS; do
        for kind in child ike; do
            router=$((router + $(exchanges "$i" router "$kind")))
            nodes=$((nodes + $(exchanges "$i" nodes "$kind")))
        done
    done
    [ "$(logged 'rekeyed to')" -eq $(($1 + router)) ] && [ "$(logged 'rekeyed by us')" -eq $(($2 + nodes)) ]
}

pass() { # NAME GROUP-OF-C1-AND-C4 GROUP-OF-C2-AND-C3
    local i group began=$SECONDS done_child done_ike
    local -A lineages
    local handshakes to by forwarded0 in0 out0 all
    handshakes=$(logged 'IKE SA .* established')
    to=$(logged 'rekeyed to')
    by=$(logged 'rekeyed by us')
    forwarded0=$(forwarded)
    in0=$(carried in)
    out0=$(carried out)
    PINGS_ANSWERED=0

    for i in $CELLS; do
        log_from[$i]=$(customer_log "$i" | wc -l)
        C_PORT=500
        case "$i" in 2 | 4) C_PORT=4500 ;; esac
        group=$2
        case "$i" in 2 | 3) group=$3 ;; esac
        C_IKE=aes256gcm16-prfsha256-$group C_ESP=aes256gcm16-$group customer_config "$i"
        check "$1: c$i gets a tunnel" customer_up "$i"
        pings_start "$i" 0.02
        lineages[$i]=$(lineage "$i")
        starts_as_meant "$i"
    done
    check "$1: the routers rekey" in_all_cells routers_part
    say "$1: the routers are done after $((SECONDS - began)) s"
    for i in $CELLS; do
        eventually "$1: $BY_NODES rekeys of c$i by the nodes" $((BY_NODES * 12 + 20)) nodes_have_rekeyed "$i"
    done
    for i in $CELLS; do eventually "$1: one SA of each kind for c$i" 5 one_sa_each "$i"; done
    for i in $CELLS; do pings_end "$1: c$i" "$i" 100; done

    equal "$1: handshakes" 4 $(($(logged 'IKE SA .* established') - handshakes))
    for i in $CELLS; do
        equal "$1: the lineage of c$i" "${lineages[$i]}" "$(lineage "$i")"
        equal "$1: Child SAs of c$i" 1 "$(tunnel_sas "$i" /v1/child-sas .spi_in | wc -l)"
        done_child="$(exchanges "$i" router child) $(exchanges "$i" nodes child)"
        done_ike="$(exchanges "$i" router ike) $(exchanges "$i" nodes ike)"
        all=$((${done_child/ /+} + ${done_ike/ /+}))
        between "$1: rekeys of c$i in a row" "$REKEYS" 99999 "$all"
        say "$1, ${NAMES[$i]}, $(tunnel_sas "$i" /v1/child-sas .suite): $all rekeys in a row; by the router ${done_child% *} Child ${done_ike% *} IKE, by the node ${done_child#* } Child ${done_ike#* } IKE"
    done
    eventually "$1: both sides count the same rekeys" 5 counts_agree "$to" "$by"
    eventually "$1: all nodes show the same SAs" 5 same_sas
    each_rose "$1: IKE messages forwarded" 5 "$forwarded0" "$(forwarded)"
    each_rose "$1: packets in" $((PINGS_ANSWERED / 4)) "$in0" "$(carried in)"
    each_rose "$1: packets out" $((PINGS_ANSWERED / 4)) "$out0" "$(carried out)"
    for i in $CELLS; do check "$1: c$i closes" customer_down "$i"; done
    eventually "$1: no SA is left anywhere" 5 every_node no_sas
    say "$1: $PINGS_ANSWERED of $PINGS_ANSWERED pings answered, 4 handshakes, $((SECONDS - began)) s"
}

test_begin rekey_marathon $((80 + REKEYS * 6 * ${ANYSA_PASSES:-1}))
lab_begin 3 4
net_up
for c in $C_NAT; do nat_map "$c" "$(customer_addr "$c")" "$((20000 + c))"; done # the port changes, too
config_begin
config_end
lab_start
net_spray on
net_egress_spray on
pass "pass 1" modp2048 modp1536
[ "${ANYSA_PASSES:-1}" -lt 2 ] || pass "pass 2" modp1536 modp2048
test_end
