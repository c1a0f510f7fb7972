#!/usr/bin/env bash
# Five nodes that are killed, frozen, cut off and starved of packets, in random order, while
# four routers rekey every 5 to 10 s under pings both ways, sprayed packet by packet.
#
# One fault after the other, or two at once; between them the cluster is whole for a moment:
#
#   kill, kill two    kill -9, the network is told at that moment: it sends the node nothing more
#   kill, late        kill -9, and the network notices 50 to 300 ms later
#   freeze            SIGSTOP up to 3 s, the network is told at that moment
#   freeze, late      SIGSTOP, the network notices later, or not at all if it was short
#   cut off           one node or two hear nobody and nobody hears them; or in one direction only
#   split             two nodes and three; some routers' traffic meets these, some those
#   pair              two nodes do not hear each other, or one not the other; all others hear both
#   loss              each packet of the mesh is lost with a chance of 1 to 15 %
#
# A node that is cut off gets no traffic until it is back and agrees with the others: what is
# negotiated without it, it cannot know. All other nodes always get their share. For the same
# reason no rekey is under way in the second around a cut or a split: its answer may come from
# the side where the router's traffic does not go any more.
#
#   lost pings        none, save in "kill, late": those sent while the network was not told (50 ms
#                     more on either side), and no more than it sent to the dead node meanwhile.
#                     What waits for a frozen node is late, not lost
#   after each heal   within HEAL_MS all nodes have one digest and see each other alive, and each
#                     Child SA that a router has installed is on every node
#   at the end        one IKE_SA_INIT per router; no (SPI, IV) twice in the capture
#
#   ANYSA_CHAOS_S=N   seconds of faults (default 30; tests/long/chaos: 600)
#   SEED=N            the same faults again (as far as the machine allows)
#   ANYSA_CHAOS_KINDS="kill loss"   only these
# shellcheck source=tests/lab/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

CHAOS_S=${ANYSA_CHAOS_S:-30}
SEED=${SEED:-$((SRANDOM % 1000000))}
ALL_KINDS="kill kill_late kill_two freeze freeze_late cut_off split pair loss"
KINDS=${ANYSA_CHAOS_KINDS:-$ALL_KINDS}
HEAL_MS=3000
LONG_ONE_IN=4 # of the partitions: 6 to 16 s, so that TCP gives up and calls again
[ "$CHAOS_S" -ge 120 ] || LONG_ONE_IN=1000
MARGIN_MS=50
NODES="1 2 3 4 5"
CUSTOMERS="1 2 3 4"
C_NAT="4"
KEPT=""

# ---------------------------------------------------------------- telling

began_us=$(now_us)
tell() { # TEXT: to the log and the story, with the time
    local line
    line=$(printf '%7.1f s  %s' "$(ms $((($(now_us) - began_us) / 1000)))" "$*")
    say "$line" | tee -a "$STATE/story"
}

# keep: everything that helps to understand a failure, outside the lab
keep() {
    local i
    KEPT=$(mktemp -d "${TMPDIR:-/tmp}/anysa-chaos.XXXXXX")
    for i in $NODES; do
        cp "$(node_dir "$i")/anysad.log" "$KEPT/n$i.log"
        node_get "$i" /metrics >"$KEPT/n$i.metrics" 2>/dev/null || true
        node_get "$i" "/v1/child-sas?limit=10000" >"$KEPT/n$i.child-sas" 2>/dev/null || true
        node_get "$i" "/v1/ike-sas?limit=10000" >"$KEPT/n$i.ike-sas" 2>/dev/null || true
        node_get "$i" /v1/nodes >"$KEPT/n$i.nodes" 2>/dev/null || true
    done
    for i in $CUSTOMERS; do
        cp "$(customer_dir "$i")/run/charon.log" "$KEPT/c$i.log"
        customer_swanctl "$i" --list-sas >"$KEPT/c$i.sas" 2>/dev/null || true
    done
    cp "$STATE"/story "$STATE"/windows "$STATE"/lost-* "$STATE"/chaos.pcap "$KEPT/" 2>/dev/null || true
}

test_show_logs() {
    [ -n "$KEPT" ] || keep
    say "seed $SEED; logs, capture and story stand in $KEPT" >&2
}

# ---------------------------------------------------------------- faults of the mesh

# Each fault has a table of its own in the namespaces it concerns.
# deaf NODE FAULT PEER...: NODE gets no packet of these
deaf() {
    local node=$1 fault=$2 from
    shift 2
    from=$(printf '10.99.0.%s, ' "$@")
    in_ns "n$node" nft -f - <<NFT
table ip $fault {
    chain in { type filter hook input priority filter; policy accept; iifname "mesh0" ip saddr { ${from%, } } drop; }
}
NFT
}
lossy() { # NODE FAULT PER-CENT
    in_ns "n$1" nft -f - <<NFT
table ip $2 {
    chain in { type filter hook input priority filter; policy accept; iifname "mesh0" meta l4proto tcp numgen random mod 100 < $3 drop; }
}
NFT
}
mend() { local i; for i in $NODES; do in_ns "n$i" nft delete table ip "$1" 2>/dev/null || true; done; }

# but NODE...: the others
but() { local i; for i in $NODES; do [[ " $* " == *" $i "* ]] || printf '%s ' "$i"; done; }

# ---------------------------------------------------------------- faults of the network around

# sent_to NODE: packets that the routers sent it so far
sent_to() {
    local router n=0
    for router in rtr irtr; do
        n=$((n + $(ip -n "$(ns "$router")" -j -s link show "n$1" | jq '.[0].stats64.tx.packets')))
    done
    echo "$n"
}

# split_traffic "NODES OF C1" "NODES OF C2" ...: each customer's packets meet these; by the marks and
# tables of spray, but stronger
split_traffic() {
    local c=0 nodes i map turn choose
    local rules_in="" rules_out=""
    for nodes in "$@"; do
        c=$((c + 1)) map="" turn=0
        for i in $nodes; do
            map+="$turn : $i, "
            turn=$((turn + 1))
        done
        choose="meta mark set numgen inc mod $turn map { ${map%, } }"
        rules_in+="ip saddr $(customer_addr "$c") ip daddr $ANYCAST $choose"$'\n'
        rules_out+="ip daddr $(customer_net "$c") $choose"$'\n'
    done
    split_router rtr "$rules_in"
    split_router irtr "$rules_out"
}
split_router() { # ROUTER RULES
    in_ns "$1" nft -f - <<NFT
table ip split {
    chain choose {
        type filter hook prerouting priority mangle + 1; policy accept;
        $2
    }
}
NFT
}
split_traffic_end() { local r; for r in rtr irtr; do in_ns "$r" nft delete table ip split 2>/dev/null || true; done; }

# ---------------------------------------------------------------- one fault
#
# plan_KIND PREFIX: rolls all that is to be rolled into the variables PREFIX...
# A fault is three functions: begin, end, and afterwards, when all agree, back.

# another: ROLL becomes a node (1 to 5) that no present fault concerns
BUSY=""
another() {
    while :; do
        roll 5
        ROLL=$((ROLL + 1))
        [[ " $BUSY " == *" $ROLL "* ]] || break
    done
    BUSY+=" $ROLL"
}

declare -A F # of the present faults: F[1.kind], F[1.nodes] ...

plan() { # NUMBER KIND
    local f=$1
    F[$f.kind]=$2
    roll 250
    F[$f.late]=$((50 + ROLL))
    case $2 in
        kill | kill_late | freeze | freeze_late) another; F[$f.nodes]=$ROLL ;;
        kill_two) another; F[$f.nodes]=$ROLL; another; F[$f.nodes]+=" $ROLL" ;;
        cut_off) plan_cut_off "$f" ;;
        split) another; F[$f.nodes]=$ROLL; another; F[$f.nodes]+=" $ROLL"
            roll 14; F[$f.how]=$((ROLL + 1)) ;; # which of the four customers meet the two nodes
        pair) another; F[$f.nodes]=$ROLL; another; F[$f.nodes]+=" $ROLL"
            roll 2; F[$f.how]=$ROLL ;;
        loss) roll 15; F[$f.how]=$((ROLL + 1)); F[$f.nodes]="" ;;
    esac
    case $2 in
        kill*) roll 2500 ;;
        freeze*) roll 3000 ;;
        *) roll 5000; ROLL=$((ROLL + 1000)) ;;
    esac
    F[$f.ms]=$ROLL
    case $2 in cut_off | split | pair) roll "$LONG_ONE_IN"; [ "$ROLL" -gt 0 ] || { roll 10000; F[$f.ms]=$((6000 + ROLL)); } ;; esac
}

plan_cut_off() {
    local f=$1
    another
    F[$f.nodes]=$ROLL
    roll 3
    [ "$ROLL" -gt 0 ] || { another; F[$f.nodes]+=" $ROLL"; }
    roll 4
    F[$f.how]=$ROLL # 0: deaf only, 1: mute only, else both
}

describe() { # NUMBER
    local f=$1 text nodes
    nodes="n${F[$f.nodes]// / n}"
    text="${F[$f.kind]//_/ }"
    case ${F[$f.kind]} in
        *_late) text+=" $nodes for ${F[$f.ms]} ms, told after ${F[$f.late]} ms" ;;
        cut_off) text+=" $nodes for ${F[$f.ms]} ms"
            case ${F[$f.how]} in 0) text+=", deaf only" ;; 1) text+=", mute only" ;; esac ;;
        split) text+=" $nodes from the others for ${F[$f.ms]} ms, customers by ${F[$f.how]}" ;;
        pair) text+=" $nodes for ${F[$f.ms]} ms"; [ "${F[$f.how]}" = 0 ] || text+=", the first is deaf to the second" ;;
        loss) text="loss of ${F[$f.how]} % for ${F[$f.ms]} ms" ;;
        *) text+=" $nodes for ${F[$f.ms]} ms" ;;
    esac
    echo "$text"
}

# window_begin NODE, window_end: while the network sends to a node that is dead
window_begin() { window_node=$1 window_sent=$(sent_to "$1") window_us=$(now_us); }
window_end() { # prints "FROM-US TO-US PACKETS" into windows
    local until
    until=$(($(now_us) + MARGIN_MS * 1000))
    echo "$((window_us - MARGIN_MS * 1000)) $until $(($(sent_to "$window_node") - window_sent))" >>"$STATE/windows"
}

begin_fault() {
    local f=$1 i j n pid side_a side_b
    local -a sides=()
    n=${F[$f.nodes]}
    case ${F[$f.kind]} in
        kill | kill_two)
            for i in $n; do net_withdraw "$i"; done
            for i in $n; do pid=$(pid_of "n$i"); kill -s KILL "$pid"; done
            for i in $n; do node_kill "$i"; done ;;
        kill_late)
            window_begin "$n"
            pid=$(pid_of "n$n"); kill -s KILL "$pid"
            sleep_ms "${F[$f.late]}"
            net_withdraw "$n"
            window_end
            node_kill "$n" ;;
        freeze)
            net_withdraw "$n"
            pid=$(pid_of "n$n"); kill -s STOP "$pid" ;;
        freeze_late)
            pid=$(pid_of "n$n")
            kill -s STOP "$pid"
            if [ "${F[$f.ms]}" -gt "${F[$f.late]}" ]; then
                sleep_ms "${F[$f.late]}"
                net_withdraw "$n"
            fi ;;
        cut_off)
            for i in $n; do net_withdraw "$i"; done
            # shellcheck disable=SC2046,SC2086
            for i in $n; do
                [ "${F[$f.how]}" = 1 ] || deaf "$i" "fault$f" $(but $i)
                [ "${F[$f.how]}" = 0 ] || for j in $(but $n); do in_ns "n$j" nft list table ip "fault$f" >/dev/null 2>&1 || deaf "$j" "fault$f" $n; done
            done ;;
        split)
            side_a=$n
            # shellcheck disable=SC2086
            side_b=$(but $n)
            for i in $CUSTOMERS; do
                if [ $(((${F[$f.how]} >> (i - 1)) & 1)) = 1 ]; then sides+=("$side_a"); else sides+=("$side_b"); fi
            done
            split_traffic "${sides[@]}"
            # shellcheck disable=SC2086
            for i in $side_a; do deaf "$i" "fault$f" $side_b; done
            # shellcheck disable=SC2086
            for i in $side_b; do deaf "$i" "fault$f" $side_a; done ;;
        pair)
            deaf "${n% *}" "fault$f" "${n#* }"
            [ "${F[$f.how]}" = 1 ] || deaf "${n#* }" "fault$f" "${n% *}" ;;
        loss) for i in $NODES; do lossy "$i" "fault$f" "${F[$f.how]}"; done ;;
    esac
}

end_fault() {
    local f=$1 i n
    n=${F[$f.nodes]}
    case ${F[$f.kind]} in
        kill*) for i in $n; do node_start "$i"; done ;;
        freeze*) kill -s CONT "$(pid_of "n$n")" ;;
        *) mend "fault$f" ;;
    esac
}

# After all agree: the network sends everywhere again.
back() {
    local f=$1 i
    case ${F[$f.kind]} in
        kill* | freeze* | cut_off) for i in ${F[$f.nodes]}; do net_announce "$i"; done ;;
        split) split_traffic_end ;;
    esac
}

# ---------------------------------------------------------------- do all agree?

# installed CUSTOMER: the nodes' SPI of each Child SA that the router has installed and not replaced
installed() {
    customer_swanctl "$1" --list-sas |
        awk '/^ *net: /{ here = /INSTALLED|REKEYING/ } here && $1 == "out" { sub(",", "", $2); print "0x" $2 }'
}

# missing: "cC nN SPI" of what a router has installed, before and after the nodes were asked, and a
# node has not
missing() {
    local c i spi
    declare -A before
    for c in $CUSTOMERS; do before[$c]=$(installed "$c"); done
    for i in $NODES; do node_get "$i" "/v1/child-sas?limit=10000" | grep -oE '"spi_in":"0x[0-9a-f]+"' >"$STATE/there.$i" || true; done
    for c in $CUSTOMERS; do
        for spi in ${before[$c]}; do
            for i in $NODES; do
                grep -q "$spi" "$STATE/there.$i" || { [[ " $(installed "$c" | paste -sd ' ') " != *" $spi "* ]] || echo "c$c n$i $spi"; }
            done
        done
    done
}
ready_all() { local i; for i in $NODES; do node_ready "$i" || return 1; done; }
none_missing() { [ -z "$(missing)" ]; }
has_tunnels() { local c; for c in $CUSTOMERS; do [ -n "$(installed "$c")" ] || return 1; done; }

slowest_ms=0
not_in_time=0
# agree_after WHAT SINCE-US: within HEAL_MS of then
agree_after() {
    local i took what=$1 since=$2
    TEST_CHECKS=$((TEST_CHECKS + 2))
    # shellcheck disable=SC2046
    took=$("$PYTHON" "$TESTS_LAB/agree.py" --since "$since" --within 30 $(for i in $NODES; do ns_path "n$i"; echo; done)) \
        || fail "$what: the nodes do not agree after 30 s"
    wait_until 3 none_missing || fail "$what: SAs that routers have are missing: $(missing | paste -sd ,)"
    wait_until 5 ready_all || fail "$what: not all nodes are ready"
    [ "$took" -le "$slowest_ms" ] || slowest_ms=$took
    if [ "$took" -gt "$HEAL_MS" ]; then
        not_in_time=$((not_in_time + 1))
        tell "   NOT IN TIME: they agree only after $took ms"
    fi
    agreed_ms=$took
}

# ---------------------------------------------------------------- routers that rekey

# rekeyer CUSTOMER: every 5 to 10 s, the IKE SA every fifth time, until the file is gone
rekeyer() {
    local n=0
    chance $((SEED * 31 + $1))
    while [ -e "$STATE/rekey" ]; do
        roll 5000
        sleep_ms $((5000 + ROLL))
        n=$((n + 1))
        [ -e "$STATE/rekey" ] || break
        flock -s 9
        if [ $((n % 5)) -eq 0 ]; then
            customer_swanctl "$1" --rekey --ike gw
        else
            customer_swanctl "$1" --rekey --child net
        fi >>"$STATE/rekeys.$1" 2>&1 || true
        sleep 0.8 # and its DELETEs
        flock -u 9
    done 9>>"$STATE/rekey.lock"
}
# calmly NUMBER: begin_fault while no rekey is under way, nor begins until the cut is known
calmly() {
    {
        flock -x 9
        begin_fault "$1"
        sleep 1
    } 9>>"$STATE/rekey.lock"
}
rekeyed() { customer_log "$1" | grep -cE "$2" || true; }
child_rekeys() { rekeyed "$1" 'inbound CHILD_SA net\{[0-9]+\} established'; }
ike_rekeys() { rekeyed "$1" 'IKE_SA gw\[[0-9]+\] rekeyed between'; }
inits() { rekeyed "$1" 'generating IKE_SA_INIT request'; }

# ---------------------------------------------------------------- lost pings

# lost_pings: "US CUSTOMER-WHERE NUMBER" of each, in order of time
lost_pings() {
    local c where
    for c in $CUSTOMERS; do
        for where in "c$c" inner; do sed "s/ / c$c-from-$where /" "$STATE/lost-$c-$where"; done
    done | sort -n
}

# account: of the lost pings on stdin, each into the window it was sent in, as far as its packets
# go; prints "EXCUSED UNEXPLAINED", and the unexplained ones to stderr
account() {
    awk -v windows="$STATE/windows" -v t0="$began_us" '
        BEGIN { while ((getline < windows) > 0) { n++; from[n] = $1; to[n] = $2; left[n] = $3 } }
        { for (i = 1; i <= n; i++) if ($1 >= from[i] && $1 <= to[i] && left[i] > 0) { left[i]--; excused++; next }
          unexplained++
          printf "    lost at %.2f s: %s %d\n", ($1 - t0) / 1e6, $2, $3 > "/dev/stderr" }
        END { print excused + 0, unexplained + 0 }'
}

# ---------------------------------------------------------------- the story

# decks of kinds, shuffled one after the other
DECK=()
next_kind() {
    local i j t
    if [ "${#DECK[@]}" -eq 0 ]; then
        read -r -a DECK <<<"$KINDS"
        for ((i = ${#DECK[@]} - 1; i > 0; i--)); do
            roll $((i + 1)); j=$ROLL
            t=${DECK[i]}; DECK[i]=${DECK[j]}; DECK[j]=$t
        done
    fi
    KIND=${DECK[0]}
    DECK=("${DECK[@]:1}")
}

# together KIND KIND: may they happen at once? Three of five nodes have to stay, so that there is
# a majority; and where the routers' traffic is split the nodes have to be the split's.
together() {
    case " $1  $2 " in
        *" split "* | *" cut_off "*"cut_off "* | *" kill_two "*" kill"* | *" kill"*" kill_two "* | *" kill_two "*" freeze"* | \
        *" freeze"*" kill_two "* | *" cut_off "*) return 1 ;;
    esac
    [ "$1" != "$2" ]
}

declare -A done_kinds
faults=0
fault() {
    local what since n=1
    BUSY=""
    next_kind
    plan 1 "$KIND"
    roll 3
    if [ "$ROLL" = 0 ] && [ "${#DECK[@]}" -gt 0 ] && together "${F[1.kind]}" "${DECK[0]}"; then
        next_kind
        plan 2 "$KIND"
        n=2
    fi
    what=$(describe 1)
    [ $n = 1 ] || what+=" and $(describe 2)"
    faults=$((faults + n))
    tell "$what"
    case ${F[1.kind]} in split | cut_off) calmly 1 ;; *) begin_fault 1 ;; esac
    [ $n = 1 ] || begin_fault 2
    sleep_ms "${F[1.ms]}"
    end_fault 1
    if [ $n = 2 ]; then
        sleep_ms $((F[2.ms] > F[1.ms] ? F[2.ms] - F[1.ms] : 0))
        end_fault 2
    fi
    since=$(now_us)
    agree_after "$what" "$since"
    back 1
    [ $n = 1 ] || back 2
    check "$what: every router has a tunnel" has_tunnels
    roll 1000
    sleep_ms $((500 + ROLL))
    tell "   agreed after $agreed_ms ms"
}

totals() {
    local c where s r sent=0 answered=0 excused unexplained packets child=0 ike=0 init=0 audit
    for c in $CUSTOMERS; do
        for where in "c$c" inner; do
            check "pings of c$c in $where were still under way" running "ping-$c-$where"
            kill -s INT "$(pid_of "ping-$c-$where")" # they all wait for late answers at once
        done
    done
    for c in $CUSTOMERS; do
        for where in "c$c" inner; do
            end_process "ping-$c-$where" INT 10
            read -r s r < <(tail -n 1 "$STATE/ping-$c-$where") || true
            sent=$((sent + s)) answered=$((answered + r))
        done
        child=$((child + $(child_rekeys "$c"))) ike=$((ike + $(ike_rekeys "$c"))) init=$((init + $(inits "$c")))
    done
    capture_stop capture
    read -r excused unexplained < <(lost_pings | account) || true
    packets=$(awk '{ n += $3 } END { print n + 0 }' "$STATE/windows")
    audit=$("$PYTHON" "$TESTS_LAB/audit_iv.py" "$STATE/chaos.pcap" --min "$answered") || fail "seed $SEED: $audit"
    tell "$faults faults, seed $SEED: $(for c in $ALL_KINDS; do printf '%s %s, ' "${done_kinds[$c]:-0}" "${c//_/ }"; done)"
    tell "$sent pings, $((sent - answered)) lost: $excused while the network was not told of a death (it sent dead nodes $packets packets), $unexplained else"
    tell "$child Child and $ike IKE rekeys; $init IKE_SA_INITs of $(wc -w <<<"$CUSTOMERS") routers; handshakes at the nodes $(logged 'IKE SA .* established')"
    tell "$(metric_total anysa_barrier_timeouts_total) of $(metric_total anysa_barriers_total) barriers timed out since the nodes' starts, $(metric_total anysa_barrier_reminders_total) reminders"
    tell "one digest and all alive after at most $slowest_ms ms; $not_in_time times not within $HEAL_MS ms"
    tell "$(head -n 1 <<<"$audit"), $(tail -n 1 <<<"$audit")"
    equal "seed $SEED: pings lost while no node was dead unnoticed" 0 "$unexplained"
    equal "seed $SEED: IKE_SA_INITs" 4 "$init"
    equal "seed $SEED: handshakes" 4 "$(logged 'IKE SA .* established')"
    equal "seed $SEED: heals that took longer than $HEAL_MS ms" 0 "$not_in_time"
    check "seed $SEED: the routers rekeyed, $child and $ike times" [ "$child" -ge $((CHAOS_S / 4)) ]
}

test_begin chaos $((40 + CHAOS_S * 2))
say "seed $SEED"
chance "$SEED"
lab_begin 5 4
: >"$STATE/windows"
net_up
for c in $C_NAT; do nat_map "$c" "$(customer_addr "$c")" "$((20000 + c))"; done
config_begin
config_end
net_no_offload
C_PORT=500 # two customers start on 4500
lab_start
net_spray on
net_egress_spray on
capture_start capture rtr "$STATE/chaos.pcap" "udp port 500 or udp port 4500"
for c in $CUSTOMERS; do
    if [ $((c % 2)) -eq 0 ]; then C_PORT=4500 customer_config "$c"; fi
    check "c$c gets a tunnel" customer_up "$c"
    pings_start "$c" 0.04
done
: >"$STATE/rekey"
for c in $CUSTOMERS; do rekeyer "$c" & done
began_us=$(now_us)
while [ $((($(now_us) - began_us) / 1000000)) -lt "$CHAOS_S" ]; do
    fault
    for f in 1 2; do done_kinds[${F[$f.kind]:-none}]=$((${done_kinds[${F[$f.kind]:-none}]:-0} + 1)); done
    F=()
done
rm "$STATE/rekey"
totals
test_end
