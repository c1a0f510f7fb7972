#!/usr/bin/env bash
# Acknowledged means kept: nodes are killed with kill -9 at random moments while routers
# negotiate, and every SA whose answer reached its router is there afterwards.
#
# Eight routers (acknowledged.c) make IKE SAs and Child SAs and rekey both without end, every
# packet to the next of three nodes. Again and again, after a random time of up to BURST_MS,
# which is some handshakes long, one node dies, or two, or all three at once, and returns.
#
#   - the moment a returned node is ready it has all that was acknowledged until then
#   - after every batch of moments: all nodes have the same, and all of it; then the cluster
#     begins anew with empty journals, so that the SAs stay few
#
# kill -9 ends a process and not the machine: what was written would stay though fsync had not
# ended, and an answer before its time go unnoticed. So the journals stand on a disk that keeps
# only what was synced, and takes milliseconds for that (volatile_disk.c).
#
#   ANYSA_KILLS=N   at least so many nodes killed (default 25; tests/long/kills: 1000)
#   SEED=N          the same moments and nodes again (as far as the machine allows)
# shellcheck source=tests/lab/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

KILLS=${ANYSA_KILLS:-25}
SEED=${SEED:-$((SRANDOM % 1000000))}
BATCH=25       # moments, and
BATCH_SAS=3000 # acknowledged: where moments take long it ends sooner
BURST_MS=400   # a kill comes 0 to that long after the last one is over
AWAY_MS=150    # a dead node stays away 0 to that long, and then starts
LATE_MS=2000   # what a ready node lacks is lost if it does not come within
NODES="1 2 3"
ROUTERS=$BIN/../tests/bench/lab_acknowledged

export NODE_DPD=86400 # these routers answer no requests
# A barrier may time out, which is counted and told; on a busy machine the own disk may be why, and
# then all nodes may forget what was acknowledged. That is not what is asked here.
export NODE_BARRIER=10000

start() { node_start "$1" "LD_PRELOAD=$STATE/volatile_disk.so"; }

# ---------------------------------------------------------------- what was acknowledged, what is there

# acknowledged ike|child: SPIs, sorted, less the IKE SAs that a rekey replaced
acknowledged() {
    awk -v kind="$1" '$1 == "old" { old[$2] = 1 } $1 == kind { spi[$2] = 1 }
        END { for (s in spi) if (!(s in old)) print s }' "$STATE/acknowledged" | LC_ALL=C sort
}

# present NODE ike|child: SPIs, sorted
present() {
    local path=/v1/child-sas key=spi_in cursor="" page
    [ "$2" = child ] || { path=/v1/ike-sas key=spi_r; }
    while :; do
        page=$(node_get "$1" "$path?limit=10000${cursor:+&cursor=$cursor}")
        grep -oE "\"$key\":\"0x[0-9a-f]+\"" <<<"$page" | cut -d '"' -f 4 || true
        cursor=$(grep -oE '"next_cursor":"[0-9a-f]+"' <<<"$page" | cut -d '"' -f 4 || true)
        [ -n "$cursor" ] || break
    done | LC_ALL=C sort
}

# lacking NODE: acknowledged, of what $STATE/want.* holds, and not there
lacking() {
    local kind
    for kind in ike child; do
        present "$1" "$kind" | LC_ALL=C comm -23 "$STATE/want.$kind" - | sed "s/^/$kind /"
    done
}

want() { local kind; for kind in ike child; do acknowledged "$kind" >"$STATE/want.$kind"; done; }

has_all() { [ -z "$(lacking "$1")" ]; }

LATE=0
# keeps NODE WHEN: fails if it lacks something; what comes within LATE_MS is only late
keeps() {
    local missing
    missing=$(lacking "$1")
    TEST_CHECKS=$((TEST_CHECKS + 1))
    [ -n "$missing" ] || return 0
    if wait_until $((LATE_MS / 1000)) has_all "$1"; then
        LATE=$((LATE + $(wc -l <<<"$missing")))
        note "n$1 had $(wc -l <<<"$missing") acknowledged SAs late, $2"
        return 0
    fi
    lost "$1" "$2"
}

lost() { # NODE WHEN: keeps all that there is and fails
    local i kept
    kept=$(mktemp -d "${TMPDIR:-/tmp}/anysa-kills.XXXXXX")
    lacking "$1" >"$kept/lost"
    for i in $NODES; do present "$i" child >"$kept/n$i.child"; present "$i" ike >"$kept/n$i.ike"; done
    cp "$STATE/acknowledged" "$kept/"
    for i in $NODES; do cp "$(node_dir "$i")/anysad.log" "$kept/n$i.log"; cp -r "$(node_dir "$i")/state" "$kept/n$i.state"; done
    fail "seed $SEED: n$1 lost $(wc -l <"$kept/lost") acknowledged SAs, $2; logs and journals stand in $kept: $(head -n 3 "$kept/lost" | paste -sd ,)"
}

# ---------------------------------------------------------------- a moment

moments=0
killed=0
all_at_once=0
slowest_ms=0

# victims: VICTIMS becomes the nodes that die next, in 3 of 5 cases one, else two or all
victims() {
    local i kind first
    roll 5
    kind=$ROLL
    roll 3
    first=$((ROLL + 1))
    case $kind in
        0) VICTIMS=$NODES ;;
        1) VICTIMS=""; for i in $NODES; do [ "$i" = "$first" ] || VICTIMS+="$i "; done ;;
        *) VICTIMS=$first ;;
    esac
}

moment() {
    local i began took
    local -a pids=()
    roll $BURST_MS
    sleep_ms "$ROLL"
    victims
    for i in $VICTIMS; do pids+=("$(pid_of "n$i")"); done
    kill -s KILL "${pids[@]}"
    for i in $VICTIMS; do node_kill "$i"; done # until they are gone
    moments=$((moments + 1))
    killed=$((killed + ${#pids[@]}))
    [ "${#pids[@]}" -lt 3 ] || all_at_once=$((all_at_once + 1))
    for i in $VICTIMS; do
        roll $AWAY_MS
        sleep_ms "$ROLL"
        start "$i"
    done
    began=$(now_us)
    for i in $VICTIMS; do node_wait_ready "$i" 15; done
    took=$((($(now_us) - began) / 1000))
    [ "$took" -le "$slowest_ms" ] || slowest_ms=$took
    want
    for i in $VICTIMS; do keeps "$i" "after n${VICTIMS// /, n} died (moment $moments)"; done
}

# ---------------------------------------------------------------- a batch

handshakes=0
in_all=0
spare=0
exchanges=0
given_up=0
timeouts=0

routers_start() {
    : >"$STATE/acknowledged"
    # shellcheck disable=SC2016
    spawn routers "$STATE/routers" nsenter --net="$(ns_path c1)" -- sh -c 'exec "$@" 2>&1 >>"$0"' "$STATE/acknowledged" \
        "$ROUTERS" --domain "$ACCOUNT.$ID_DOMAIN" --psk-file "$STATE/common/psk/routers" --tunnels "$TUNNELS" \
        --tsi "$(customer_net 1)" --tsr "$INNER_NET" --concurrency 8 "nodes,$ANYCAST:500,1"
}

routers_stop() {
    local h e g _
    end_process routers TERM 15
    read -r h _ e _ g _ < <(tail -n 1 "$STATE/routers") || true
    check "the routers end by themselves: $(cat "$STATE/routers")" [ -n "$g" ]
    handshakes=$((handshakes + h))
    exchanges=$((exchanges + e))
    given_up=$((given_up + g))
}

batch() {
    local i until=$((moments + BATCH)) kind
    for i in $NODES; do start "$i"; done
    for i in $NODES; do node_wait_ready "$i" 15; done
    routers_start
    sleep 0.3
    while [ "$moments" -lt "$until" ] && [ "$killed" -lt "$KILLS" ] \
        && [ "$(wc -l <"$STATE/acknowledged")" -lt "$BATCH_SAS" ]; do moment; done
    routers_stop
    timeouts=$((timeouts + $(logged "a barrier timed out")))
    want
    for i in $NODES; do keeps "$i" "at the end of a batch (moment $moments)"; done
    eventually "all nodes show the same SAs" 5 same_sas
    for kind in ike child; do
        in_all=$((in_all + $(wc -l <"$STATE/want.$kind")))
        spare=$((spare + $(present 1 "$kind" | wc -l) - $(wc -l <"$STATE/want.$kind")))
    done
    for i in $NODES; do
        node_kill "$i"
        rm -rf "$(node_dir "$i")/state"
        mkdir -m 700 "$(node_dir "$i")/state"
        : >"$(node_dir "$i")/anysad.log"
    done
    say "$killed kills, $handshakes handshakes, $((SECONDS - began)) s"
}

# The tunnels that acknowledged.c logs in to, numbered by tunnel_login() of tests/bench/gateway.c
TUNNELS=100
tunnels() {
    mkdir -p -m 700 "$STATE/common/psk"
    (umask 077 && printf 'k1 %s\n' "$(random_hex 32)" >"$STATE/common/cluster.key")
    (umask 077 && printf '%s\n' "$(random_hex 24)" >"$STATE/common/psk/routers")
    awk -v n="$TUNNELS" -v account="$ACCOUNT" -v anycast="$ANYCAST" 'BEGIN {
        for (i = 1; i <= n; i++)
            printf "  - {id: %032x, account_id: \"%s\", name: b%d, type: ipsec, anycast_endpoint: %s, psk_file: psk/routers, interface_address: 10.100.%d.%d/31}\n",
                i, account, i, anycast, int(i / 128), 2 * (i % 128)
    }' >"$STATE/common/tunnels"
    printf '  - {prefix: %s, tunnel: %032x}\n' "$(customer_net 1)" 1 >"$STATE/common/routes"
    config_end
}

test_show_logs() { for i in $NODES; do echo "---- end of n$i's log" >&2; tail -n 15 "$(node_dir "$i")/anysad.log" >&2 || true; done; }

test_begin kills $((30 + KILLS * 2))
[ -x "$ROUTERS" ] || die "no $ROUTERS: build it (ANYSA_BENCH is on by default)"
say "seed $SEED"
chance "$SEED"
lab_begin 3 1
net_up
tunnels
cc -O2 -Wall -Wextra -shared -fPIC -o "$STATE/volatile_disk.so" "$TESTS_LAB/volatile_disk.c" -ldl || die "volatile_disk.c does not compile"
net_spray on
began=$SECONDS
while [ "$killed" -lt "$KILLS" ]; do batch; done
say "$killed kills at $moments moments ($all_at_once times all three at once), seed $SEED, $((SECONDS - began)) s"
say "$handshakes handshakes and $exchanges further exchanges acknowledged, $given_up given up; $in_all SAs to be kept: none lost, $LATE late"
say "$spare SAs are there though their answers were lost or another replaced them; slowest return $slowest_ms ms"
equal "barriers that timed out" 0 "$timeouts"
check "the routers got through" [ "$handshakes" -ge "$killed" ]
test_end
