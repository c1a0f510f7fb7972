# shellcheck shell=bash
# What deploy/lab and the tests under tests/lab share. Source it; it starts nothing.
#
# The lab, with N nodes and M customers; every box is a network namespace:
#
#    c1 .. cM        customers: strongSwan, inner prefix 203.0.113.(16*i)/28
#     |               198.51.100.(10+i), or 192.168.i.2 behind natI, which has that address
#    rtr             ECMP (or per-packet spray) for the anycast address 192.0.2.1
#     |  |  |         10.98.i.0/31, one point-to-point link to each node
#    n1 n2 n3 ...    nodes: anysad, 192.0.2.1 on lo ---- mesh (bridge, 10.99.0.0/24)
#     |  |  |         10.97.i.0/31, one link to each node
#    irtr            inner router: one node per customer (or per-packet spray)
#     |               10.200.0.0/24
#    inner           inner host 10.200.0.2
#
# Namespaces are called ${LAB}-c1, ${LAB}-rtr and so on; links have plain names
# because they are born inside their namespaces. Several labs can stand side by
# side under different names (ANYSA_LAB).
#
# Environment:
#   ANYSA_LAB      name of the lab and prefix of all it makes  (default: anysa)
#   ANYSA_LAB_DIR  where labs keep their state                 (default: /run/anysa-lab)
#   ANYSA_BIN      directory holding anysad and anysa          (default: build/release/node)
set -euo pipefail

LAB_D=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$LAB_D/../.." && pwd)
LAB=${ANYSA_LAB:-anysa}
STATE=${ANYSA_LAB_DIR:-/run/anysa-lab}/$LAB
BIN=${ANYSA_BIN:-$ROOT/build/release/node}
PYTHON=${ANYSA_PYTHON:-/usr/bin/python3}

ANYCAST=192.0.2.1
INNER_HOST=10.200.0.2
INNER_NET=10.200.0.0/24
CUSTOMER_NETS=203.0.113.0/24
ACCOUNT=123456789
ID_DOMAIN=ipsec.example.net
MAX_NODES=16
MAX_CUSTOMERS=15

# ---------------------------------------------------------------- messages

say()  { printf '%s\n' "$*"; }
note() { printf '  %s\n' "$*" >&2; }
die()  { printf 'lab: %s\n' "$*" >&2; exit 1; }
usage_error() { printf 'lab: %s (deploy/lab --help)\n' "$*" >&2; exit 2; }

# number NAME VALUE MIN MAX: refuses anything else
number() {
    [[ $2 =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] \
        || usage_error "$1 must be a number from $3 to $4, not '$2'"
}

# ---------------------------------------------------------------- state

# Set by lab_begin: the lab of this name was made by this process, so it may remove it.
LAB_OURS=no

lab_exists() { [ -d "$STATE" ]; }

need_lab() { lab_exists || die "no lab '$LAB' is up: run deploy/lab up first"; }

need_root() { [ "$(id -u)" -eq 0 ] || die "network namespaces need root"; }

# Facts of the lab, one small file each: set_fact NAME VALUE, fact NAME [DEFAULT]
set_fact() { printf '%s\n' "$2" >"$STATE/facts/$1"; }
fact() { if [ -e "$STATE/facts/$1" ]; then cat "$STATE/facts/$1"; else printf '%s\n' "${2-}"; fi; }

node_count()     { fact nodes 0; }
customer_count() { fact customers 0; }
all_nodes()      { seq 1 "$(node_count)"; }

# lab_begin NODES CUSTOMERS: claims the lab's name; the directory is the lock
lab_begin() {
    need_root
    [[ $LAB =~ ^[a-z0-9][a-z0-9-]{0,31}$ ]] \
        || die "ANYSA_LAB may hold a-z, 0-9 and '-' only, not '$LAB'"
    mkdir -p "$(dirname "$STATE")"
    mkdir -m 700 "$STATE" 2>/dev/null \
        || die "lab '$LAB' is already up (deploy/lab status, deploy/lab down)"
    LAB_OURS=yes
    mkdir "$STATE/facts" "$STATE/pids"
    : >"$STATE/namespaces"
    set_fact nodes "$1"
    set_fact customers "$2"
    set_fact alive "$(seq -s ' ' 1 "$1")"
    set_fact rotation 0
}

# ---------------------------------------------------------------- namespaces

ns()      { printf '%s-%s' "$LAB" "$1"; }
ns_path() { printf '/run/netns/%s' "$(ns "$1")"; }

# in_ns NS COMMAND...: nsenter, not `ip netns exec`, because that remounts /sys
in_ns() {
    local path
    path=$(ns_path "$1")
    shift
    nsenter --net="$path" -- "$@"
}

ns_add() {
    local name
    name=$(ns "$1")
    [ ! -e "/run/netns/$name" ] || die "namespace $name exists but is not ours: remove it or choose another ANYSA_LAB"
    echo "$name" >>"$STATE/namespaces"
    ip netns add "$name"
    ip -n "$name" link set lo up
}

# ns_sysctl NS KEY=VALUE...
ns_sysctl() {
    local where=$1
    shift
    in_ns "$where" sysctl -q -w "$@"
}

# ---------------------------------------------------------------- processes

# A pid file holds "PID START-TIME": the start time tells our process from a
# later one that happens to have got the same number.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) } # what follows the command name: state ppid ...
    # shellcheck disable=SC2086
    set -- $stat
    [ "$1" != Z ] || return 1
    printf '%s\n' "${20}"
}

record_pid() { # NAME PID
    printf '%s %s\n' "$2" "$(start_time "$2" || echo gone)" >"$STATE/pids/$1"
}

# pid_of NAME: prints the pid if the recorded process still runs
pid_of() {
    local pid began
    [ -r "$STATE/pids/$1" ] || return 1
    read -r pid began <"$STATE/pids/$1"
    [ "$(start_time "$pid" || true)" = "$began" ] || return 1
    printf '%s\n' "$pid"
}

running() { pid_of "$1" >/dev/null; }
stopped() { ! running "$1"; }

# spawn NAME LOG COMMAND...: a background process of the lab, recorded
spawn() {
    local name=$1 log=$2
    shift 2
    setsid "$@" </dev/null >>"$log" 2>&1 &
    record_pid "$name" $!
    disown
}

# end_process NAME [SIGNAL] [SECONDS]: signal, wait, then SIGKILL as a last resort
end_process() {
    local pid signal=${2:-TERM} seconds=${3:-5}
    if pid=$(pid_of "$1"); then
        kill -s "$signal" "$pid" 2>/dev/null || true
        if ! wait_until "$seconds" stopped "$1"; then
            kill -s KILL "$pid" 2>/dev/null || true
            wait_until 5 stopped "$1" || die "process $pid ($1) does not die"
        fi
    fi
    rm -f "$STATE/pids/$1"
}

# ---------------------------------------------------------------- waiting, time

now_us() { printf '%s\n' "${EPOCHREALTIME/[.,]/}"; }

# wait_until SECONDS COMMAND...: polls every 20 ms; 1 when the time is over
wait_until() {
    local end=$(($(now_us) + $1 * 1000000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(now_us)" -lt "$end" ] || return 1
        sleep 0.02
    done
}

# ts_us RFC3339: microseconds since 1970
ts_us() {
    local ns
    ns=$(date -u -d "$1" +%s%N)
    printf '%s\n' "${ns%???}"
}

# ms DIFFERENCE_US: "12.345"
ms() { awk -v us="$1" 'BEGIN { printf "%.1f", us / 1000 }'; }

# ---------------------------------------------------------------- all of it

# lab_up NODES CUSTOMERS CONTAINERS(yes|no) [NODE THAT INSTALLS NO SA]
lab_up() {
    local i
    lab_begin "$1" "$2"
    set_fact containers "$3"
    need_binaries
    net_up
    config_begin
    config_end
    if [ "$3" = yes ]; then containers_up; fi
    lab_start "${4-}"
}

# lab_start [NODE THAT INSTALLS NO SA]: nodes and customers of a lab whose network
# and configuration are there
lab_start() {
    local i
    for i in $(all_nodes); do
        if [ "$i" = "${1-}" ]; then node_start "$i" ANYSA_TEST_NO_INSTALL=1; else node_start "$i"; fi
    done
    for i in $(seq 1 "$(customer_count)"); do customer_start "$i"; done
    for i in $(all_nodes); do node_wait_ready "$i" 15; done
}

# lab_down: removes all that this lab made and nothing else; safe to repeat
lab_down() {
    local name pidfile
    lab_exists || return 0
    [ "$(fact containers no)" = no ] || containers_down
    for pidfile in "$STATE"/pids/*; do
        [ -e "$pidfile" ] || continue
        end_process "$(basename "$pidfile")" KILL
    done
    while read -r name; do
        if [ -e "/run/netns/$name" ]; then
            ip netns del "$name" || note "could not remove namespace $name"
        fi
    done <"$STATE/namespaces"
    rm -rf "$STATE"
}

# lab_down_if_ours: for exit traps; a lab that another process made stays
lab_down_if_ours() { [ "$LAB_OURS" = no ] || lab_down; }

# shellcheck source=deploy/lab.d/net.sh
. "$LAB_D/net.sh"
# shellcheck source=deploy/lab.d/nat.sh
. "$LAB_D/nat.sh"
# shellcheck source=deploy/lab.d/node.sh
. "$LAB_D/node.sh"
# shellcheck source=deploy/lab.d/customer.sh
. "$LAB_D/customer.sh"
# shellcheck source=deploy/lab.d/container.sh
. "$LAB_D/container.sh"
