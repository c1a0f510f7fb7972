# shellcheck shell=bash
# What every lab test begins with. A test is
#
#   . "$(dirname "$0")/common.sh"
#   test_begin NAME SECONDS          # a lab of its own, a time limit, cleaning up
#   ...                              # check / equal / fail
#   test_end
#
# Exit codes for ctest: 0 passed, 1 failed, 77 skipped because the machine cannot.
# ANYSA_TEST_KEEP=1 leaves a failed test's lab standing.

TESTS_LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TEST_LAB_PREFIX=${ANYSA_LAB:-t$$}
export ANYSA_LAB=$TEST_LAB_PREFIX
# shellcheck source=deploy/lab.d/lib.sh
. "$TESTS_LAB/../../deploy/lab.d/lib.sh"

TEST_NAME=""
TEST_CHECKS=0
TEST_WATCHDOG=""

# test_begin NAME SECONDS
test_begin() {
    TEST_NAME=$1
    test_need_machine
    need_binaries
    trap test_exit EXIT
    trap 'exit 1' INT TERM
    # A hung test must still clean up, so the limit is a signal to ourselves.
    (
        sleep "$2" >/dev/null 2>&1 # holds no pipe that somebody waits on
        echo "FAIL $TEST_NAME: not done after $2 s" >&2
        kill -TERM $$ 2>/dev/null
    ) >&2 </dev/null &
    TEST_WATCHDOG=$!
    disown
    say "== $TEST_NAME"
}

# test_need_machine: 77, and loudly, where the machine itself falls short
test_need_machine() {
    local tool
    [ "$(id -u)" -eq 0 ] || skip "not root: network namespaces need it"
    [ -c /dev/net/tun ] || skip "no /dev/net/tun"
    unshare --net true 2>/dev/null || skip "this kernel or container makes no network namespaces"
    for tool in nsenter nft curl jq tcpdump swanctl ping cc /usr/lib/ipsec/charon "$PYTHON"; do
        command -v "$tool" >/dev/null || skip "$tool is missing (deploy/install-packages)"
    done
}

skip() {
    printf 'SKIPPED, NOTHING WAS TESTED: %s\n' "$*" >&2
    exit 77
}

# test_undo: what a test made beside its lab; a test that does defines its own
test_undo() { :; }

test_exit() {
    local status=$?
    trap - EXIT INT TERM
    [ -z "$TEST_WATCHDOG" ] || kill "$TEST_WATCHDOG" 2>/dev/null || true
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        test_show_logs
        if [ -n "${ANYSA_TEST_KEEP:-}" ]; then
            echo "lab kept: ANYSA_LAB=$LAB deploy/lab status|down" >&2
            exit "$status"
        fi
    fi
    test_undo || true
    lab_down_if_ours
    exit "$status"
}

test_show_logs() {
    local log
    [ "$LAB_OURS" = yes ] || return 0
    for log in "$STATE"/n*/anysad.log "$STATE"/c*/run/charon.log; do
        [ -e "$log" ] || continue
        echo "---- end of ${log#"$STATE"/}" >&2
        tail -n 25 "$log" >&2
    done
    for log in $(all_nodes); do
        echo "---- n$log: drops and Child SAs" >&2
        node_get "$log" /metrics 2>/dev/null | grep -E '^anysa_(drops|packets)_total.* [1-9]' >&2 || true
        node_list "$log" /v1/child-sas 2>/dev/null | jq -c . >&2 || true
    done
}

test_end() { say "PASS $TEST_NAME: $TEST_CHECKS checks"; }

# ---------------------------------------------------------------- checks

fail() {
    printf 'FAIL %s: %s\n' "$TEST_NAME" "$*" >&2
    exit 1
}

# check DESCRIPTION COMMAND...
check() {
    local what=$1
    shift
    TEST_CHECKS=$((TEST_CHECKS + 1))
    "$@" || fail "$what"
}

# equal DESCRIPTION EXPECTED GOT
equal() {
    TEST_CHECKS=$((TEST_CHECKS + 1))
    [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# between DESCRIPTION LOW HIGH GOT
between() {
    TEST_CHECKS=$((TEST_CHECKS + 1))
    [ "$4" -ge "$2" ] && [ "$4" -le "$3" ] || fail "$1: expected $2 to $3, got $4"
}

# eventually DESCRIPTION SECONDS COMMAND...
eventually() {
    local what=$1
    shift
    TEST_CHECKS=$((TEST_CHECKS + 1))
    wait_until "$@" || fail "$what: not within $1 s"
}

# ---------------------------------------------------------------- shared questions

# no_sas NODE: neither IKE nor Child SAs there
no_sas() { [ "$(ike_count "$1")" -eq 0 ] && [ "$(child_count "$1")" -eq 0 ]; }

# same_sas: all nodes in service show the same set of Child SAs
same_sas() {
    [ "$(every_node spi_list | sort | uniq -c | awk '{ print $1 }' | sort -u)" = "$(alive_nodes | wc -w)" ]
}
spi_list() { node_list "$1" /v1/child-sas | jq -r .spi_in; }

# metric_total METRIC: of all nodes
metric_total() { local i n=0; for i in $(all_nodes); do n=$((n + $(node_metric "$i" "$1"))); done; echo "$n"; }

# first_child NODE: spi_in of a Child SA
first_child() { node_first "$1" /v1/child-sas | jq -r .spi_in; }

# router_sas CUSTOMER: "#1,ESTABLISHED, #2," if it has one IKE SA and one Child SA in use
router_sas() {
    customer_swanctl "$1" --list-sas |
        awk '/^gw:/ { ike = ike $2 $3 } /INSTALLED/ { child = child $2 } END { print ike, child }'
}
one_sa_each() { [[ $(router_sas "$1") =~ ^#[0-9]+,ESTABLISHED,\ #[0-9]+,$ ]]; }

# sa_replaced CUSTOMER ike|child OLD: of what router_sas showed, the old one is gone and one new
# one there
sa_replaced() {
    local now
    now=$(router_sas "$1")
    [[ $now =~ ^#[0-9]+,ESTABLISHED,\ #[0-9]+,$ ]] || return 1
    if [ "$2" = ike ]; then [ "${now% *}" != "${3% *}" ]; else [ "${now#* }" != "${3#* }" ]; fi
}

# router_rekeys CUSTOMER ike|child: one rekey by the router, to its end
router_rekeys() {
    local old what="--child net"
    old=$(router_sas "$1")
    [ "$2" = child ] || what="--ike gw"
    # shellcheck disable=SC2086
    customer_swanctl "$1" --rekey $what >>"$(customer_dir "$1")/swanctl.out" 2>&1 || true
    wait_until 6 sa_replaced "$1" "$2" "$old" && return
    echo "c$1: rekey ($2): '$old' became '$(router_sas "$1")'" >&2
    return 1
}

# logged PATTERN: lines in all nodes' logs
logged() { local i n=0; for i in $(all_nodes); do n=$((n + $(node_log "$i" | grep -cE "$1" || true))); done; echo "$n"; }

# log_mark NODE: a place in its log; log_since NODE MARK: the lines after it
log_mark() { wc -l <"$(node_dir "$1")/anysad.log"; }
log_since() { tail -n "+$(($2 + 1))" "$(node_dir "$1")/anysad.log"; }

# ---------------------------------------------------------------- chance

# chance SEED; roll N: ROLL becomes 0 .. N - 1. The same seed gives the same rolls (splitmix64).
CHANCE=0
ROLL=0
chance() { CHANCE=$1; }
roll() {
    local z
    CHANCE=$((CHANCE + 0x9e3779b97f4a7c15))
    z=$(((CHANCE ^ (CHANCE >> 30 & 0x3ffffffff)) * 0xbf58476d1ce4e5b9))
    z=$(((z ^ (z >> 27 & 0x1fffffffff)) * 0x94d049bb133111eb))
    ROLL=$((((z ^ (z >> 31 & 0x1ffffffff)) >> 8 & 0xffffffffffff) % $1))
}

# sleep_ms MILLISECONDS
sleep_ms() { sleep "$(($1 / 1000)).$(printf '%03d' $(($1 % 1000)))"; }

# ---------------------------------------------------------------- pings that last

declare -A PINGS_SINCE_US PINGS_INTERVAL

# pings_start CUSTOMER INTERVAL: it and the inner host ping each other until pings_end
pings_start() {
    PINGS_SINCE_US[$1]=$(now_us) PINGS_INTERVAL[$1]=$2
    ping_start "$1" "c$1" "$(customer_host "$1")" "$INNER_HOST" "$2"
    ping_start "$1" inner "$INNER_HOST" "$(customer_host "$1")" "$2"
}
ping_start() { # CUSTOMER NS SOURCE TARGET INTERVAL
    spawn "ping-$1-$2" "$STATE/ping-$1-$2" nsenter --net="$(ns_path "$2")" -- \
        "$PYTHON" "$LAB_D/patient_ping.py" --source "$3" --count 65536 --interval "$5" --lost "$STATE/lost-$1-$2" "$4"
}

# pings_end WHAT CUSTOMER MIN: goes on until MIN went either way, and fails unless all were answered
pings_end() {
    local where sent received
    sleep "$(awk -v min="$3" -v each="${PINGS_INTERVAL[$2]}" -v past="$(($(now_us) - PINGS_SINCE_US[$2]))" \
        'BEGIN { left = min * each + 1 - past / 1e6; print (left > 0 ? left : 0) }')"
    for where in "c$2" inner; do
        check "$1: pings in $where were still under way" running "ping-$2-$where"
        end_process "ping-$2-$where" INT 10
        read -r sent received < <(tail -n 1 "$STATE/ping-$2-$where") || true
        check "$1: pings from $where: $(cat "$STATE/ping-$2-$where")" [ "${sent:-0}" = "${received:-none}" ]
        check "$1: only ${sent:-0} pings from $where" [ "${sent:-0}" -ge "$3" ]
        rm "$STATE/ping-$2-$where"
        PINGS_ANSWERED=$((${PINGS_ANSWERED:-0} + received))
    done
}
