# shellcheck shell=bash
# deploy/lab demo: a real router negotiates with one node, and every node carries
# the tunnel. Sourced by deploy/lab and by the tests that look at the demo.
#
#   1. nodes up and ready; both routers set to per-packet spray
#   2. the customer negotiates: IKE messages, too, land on whichever node is next
#   3. at once, 300 pings each way, 100 a second
#   4. the table, and a verdict: exit 0 only if every node holds the SA and carried
#      packets in both directions, and no ping was lost

DEMO_PINGS=300
DEMO_INTERVAL=0.01

# prepare CONTAINERS: packages and binaries, where they are missing
prepare() {
    need_root
    if [ "$1" = yes ]; then
        "$ROOT/deploy/install-packages" --containers
    else
        "$ROOT/deploy/install-packages" --lab
    fi
    if [ -z "${ANYSA_BIN:-}" ] && ! { [ -x "$BIN/anysad" ] && [ -x "$BIN/anysa" ]; }; then
        say "building anysa (once)"
        mkdir -p "$ROOT/build"
        (cd "$ROOT" && cmake --preset release && cmake --build --preset release) >"$ROOT/build/lab-build.log" 2>&1 \
            || { tail -n 40 "$ROOT/build/lab-build.log" >&2; die "the build failed (log above, whole in build/lab-build.log)"; }
    fi
    need_binaries
}

demo_run() {
    local i customer inner
    declare -A base_in=() base_out=()
    for i in $(all_nodes); do
        base_in[$i]=$(node_packets "$i" in)
        base_out[$i]=$(node_packets "$i" out)
    done
    say "$(node_count) nodes ready; every packet, IKE too, goes to the next node in turn"
    net_spray on
    net_egress_spray on
    customer_up 1 || demo_refused
    inner_ping 1 "$DEMO_PINGS" "$DEMO_INTERVAL" >"$STATE/inner.ping" &
    customer=$(customer_ping 1 "$DEMO_PINGS" "$DEMO_INTERVAL" || true)
    wait $! || true
    inner=$(cat "$STATE/inner.ping")
    demo_table
    demo_verdict "${customer:-0 0}" "${inner:-0 0}"
}

demo_refused() {
    local i
    say "the customer got no tunnel; what the sides say:"
    customer_log 1 | tail -n 12 | sed 's/^/  c1: /'
    for i in $(all_nodes); do node_log "$i" | tail -n 6 | sed "s/^/  n$i: /"; done
    exit 1
}

# demo_table: uses base_in and base_out of demo_run
demo_table() {
    local ike owner child spi created i
    ike=$(first_answer /v1/ike-sas)
    owner=$(jq -r '.owner' <<<"$ike")
    child=$(node_first "$owner" /v1/child-sas)
    spi=$(jq -r '.spi_in' <<<"$child")
    created=$(ts_us "$(jq -r '.created_at' <<<"$child")")
    say
    say "customer $(jq -r '.peer' <<<"$ike") negotiated with n$owner: IKE $(jq -r '.suite' <<<"$ike"), Child SA $spi $(jq -r '.suite' <<<"$child"), encapsulation $(jq -r '.encap' <<<"$child")"
    say
    printf '%-6s %-12s %16s %12s %12s\n' node IKE "SA stood after" "packets in" "packets out"
    for i in $(all_nodes); do demo_row "$i" "$owner" "$spi" "$created"; done
    say
}

# first_answer PATH: the first item of a list, from whichever node has one
first_answer() {
    local i item
    for i in $(all_nodes); do
        item=$(node_first "$i" "$1")
        if [ -n "$item" ]; then printf '%s\n' "$item"; return; fi
    done
    die "no node shows anything under $1 although the customer has a tunnel"
}

demo_row() {
    local i=$1 role="" at after
    [ "$i" != "$2" ] || role=negotiated
    at=$(node_list "$i" /v1/child-sas | jq -r --arg s "$3" 'select(.spi_in == $s) | .installed_at // empty')
    if [ -n "$at" ]; then after="$(ms $(($(ts_us "$at") - $4))) ms"; else after=never; problems+=("n$i does not hold the SA"); fi
    local in=$(($(node_packets "$i" in) - ${base_in[$i]})) out=$(($(node_packets "$i" out) - ${base_out[$i]}))
    printf '%-6s %-12s %16s %12d %12d\n' "n$i" "$role" "$after" "$in" "$out"
    [ "$in" -gt 0 ] || problems+=("n$i carried nothing from the customer")
    [ "$out" -gt 0 ] || problems+=("n$i carried nothing to the customer")
}

problems=()

# demo_verdict "SENT RECEIVED" "SENT RECEIVED": of the customer's and the inner host's pings
demo_verdict() {
    say "pings answered: customer to inner host ${1#* } of ${1% *}, inner host to customer ${2#* } of ${2% *}"
    [ "$1" = "$DEMO_PINGS $DEMO_PINGS" ] || problems+=("pings from the customer were lost")
    [ "$2" = "$DEMO_PINGS $DEMO_PINGS" ] || problems+=("pings from the inner host were lost")
    if [ "${#problems[@]}" -gt 0 ]; then
        printf 'FAILED: %s\n' "${problems[@]}"
        exit 1
    fi
    say "every node carried the tunnel, both ways, from the first packet on"
}

# demo_end STATUS: on every way out
demo_end() {
    trap - EXIT
    if [ "${keep:-no}" = yes ] && [ "$LAB_OURS" = yes ]; then
        say "lab '$LAB' is left up (deploy/lab status, deploy/lab down)"
    else
        lab_down_if_ours
    fi
    exit "$1"
}
