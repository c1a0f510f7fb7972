#!/usr/bin/env bash
# A real Linux kernel as the customer's router (deploy/lab.d/uml.sh): native ESP with the
# kernel's XFRM, and GRE with the kernel's devices. Everything, IKE too, takes turns over
# three nodes, both ways; the customer's anti-replay window is off.
#
#   1. a tunnel started on port 500 and one started on 4500: pings both ways over Child
#      rekeys, none lost, a third by each node; TCP both ways, its MSS clamped
#   2. every Child suite
#   3. GRE without a key, with one, and with the kernel's checksums
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=deploy/lab.d/uml.sh
. "$LAB_D/uml.sh"

PINGS=100
REKEYS=3
FILE_BYTES=600000
SUITES=(aes128gcm16 aes256gcm16 aes128-sha256 aes256-sha256 aes128-sha1 aes256-sha1 null-sha256)
PORTS=(500 4500)

# ---------------------------------------------------------------- looking

# counters DIRECTION: one number per node
counters() { local i; for i in $(all_nodes); do node_packets "$i" "$1"; done | paste -sd ' '; }

# thirds DESCRIPTION TOTAL DIRECTION BEFORE: each node carried about a third since
thirds() {
    local what=$1 total=$2 direction=$3 i
    local -a before after
    read -r -a before <<<"$4"
    read -r -a after <<<"$(counters "$direction")"
    for i in 0 1 2; do
        between "$what: packets $direction by n$((i + 1))" $((total * 3 / 10)) $((total * 37 / 100 + 1)) \
            $((after[i] - before[i]))
    done
}

# from_customer COUNT [CUSTOMER [OPTIONS...]], from_inner COUNT [CUSTOMER]: pings between
# the customer's host and the inner host; prints "sent received"
from_customer() {
    late_ping c1 --source "$(customer_host "${2:-1}")" --count "$1" "${@:3}" "$INNER_HOST"
}
from_inner() { late_ping inner --source "$INNER_HOST" --count "$1" "$(customer_host "${2:-1}")"; }
late_ping() { local box=$1; shift; in_ns "$box" "$PYTHON" "$LAB_D/patient_ping.py" "$@"; }

# pings_both_ways DESCRIPTION COUNT [CUSTOMER]: at the same time; where one is missing,
# it says what the nodes carried and what the customer's kernel counted meanwhile
pings_both_ways() {
    local inner_job from_customer in0 out0
    in0=$(counters in)
    out0=$(counters out)
    from_inner "$2" "${3:-1}" >"$STATE/inner.ping" &
    inner_job=$!
    from_customer=$(from_customer "$2" "${3:-1}")
    wait "$inner_job"
    if [ "$from_customer $(cat "$STATE/inner.ping")" != "$2 $2 $2 $2" ]; then
        note "packets in by n1 n2 n3: $in0 -> $(counters in), out: $out0 -> $(counters out)"
        note "the customer's kernel: $(kernel_errors | paste -sd ,)"
    fi
    equal "$1: pings of the customer (sent, answered)" "$2 $2" "$from_customer"
    equal "$1: pings of the inner host (sent, answered)" "$2 $2" "$(cat "$STATE/inner.ping")"
}

# kernel_errors: the counters of the guest's XFRM that are not 0
# shellcheck disable=SC2016
kernel_errors() { uml_run 1 awk '$2 > 0' /proc/net/xfrm_stat; }

# native DESCRIPTION SUITE: all nodes and the guest's kernel agree that this is plain ESP
native() {
    local what=$1 suite=$2 i child states
    for i in $(all_nodes); do
        child=$(node_first "$i" /v1/child-sas)
        equal "$what: n$i shows" "esp $suite $(customer_addr 1)" "$(jq -r '"\(.encap) \(.suite) \(.peer)"' <<<"$child")"
    done
    states=$(uml_run 1 ip xfrm state)
    equal "$what: the kernel's SAs" 2 "$(grep -c 'proto esp spi' <<<"$states")"
    equal "$what: SAs without a replay window" 2 "$(grep -c 'replay-window 0 ' <<<"$states")"
    equal "$what: UDP-encapsulated SAs" 0 "$(grep -c '\bencap type' <<<"$states" || true)"
}

# ---------------------------------------------------------------- 1. pings, rekeys, TCP

rekey_often() {
    local i before
    for i in $(seq "$REKEYS"); do
        before=$(rekeys_done)
        customer_rekey 1
        wait_until 3 rekeyed_since "$before" || { echo "rekey $i did not finish" >&2; return 1; }
    done
}
rekeys_done() { customer_log 1 | grep -c 'outbound CHILD_SA net{[0-9]*} established' || true; }
rekeyed_since() { [ "$(rekeys_done)" -gt "$1" ]; }

pings_over_rekeys() { # DESCRIPTION
    local what=$1 in0 out0 rekeys rekey_job
    in0=$(counters in)
    out0=$(counters out)
    rekeys=$(rekeys_done)
    rekey_often &
    rekey_job=$!
    pings_both_ways "$what" "$PINGS"
    check "$what: rekeys" wait "$rekey_job"
    equal "$what: rekeys" "$REKEYS" $(($(rekeys_done) - rekeys))
    thirds "$what" $((2 * PINGS)) in "$in0"
    thirds "$what" $((2 * PINGS)) out "$out0"
}

# servers_up: a file to fetch on either side of the tunnel
servers_up() {
    mkdir "$STATE/web"
    head -c "$FILE_BYTES" /dev/urandom >"$STATE/web/file"
    server_up inner "$INNER_HOST"
    server_up c1 "$(customer_host 1)"
}
# server_up NS ADDRESS: http.server's own start would ask the name service first
server_up() {
    spawn "web-$1" "$STATE/web.log" nsenter --net="$(ns_path "$1")" --wd="$STATE/web" -- \
        "$PYTHON" -c 'import http.server as h, socketserver as s, sys
s.TCPServer((sys.argv[1], 8000), h.SimpleHTTPRequestHandler).serve_forever()' "$2"
    wait_until 10 in_ns "$1" curl -s --fail -o /dev/null "http://$2:8000/" || die "no HTTP server in $1"
}

fetch() { # FROM-NS OPTIONS... HOST
    local from=$1
    shift
    in_ns "$from" curl -sS --fail --max-time 10 -o "$STATE/web/fetched" "${@:1:$#-1}" "http://${!#}:8000/file" \
        && cmp "$STATE/web/file" "$STATE/web/fetched"
}

# segment_sizes_begin NS: from now on, the MSS of every SYN that reaches NS is kept
segment_sizes_begin() {
    in_ns "$1" nft -f - <<'NFT'
table ip syns
delete table ip syns
table ip syns {
    set sizes { typeof tcp option maxseg size; flags dynamic; }
    chain input {
        type filter hook input priority 0; policy accept;
        tcp flags & syn != 0 add @sizes { tcp option maxseg size }
    }
}
NFT
}
segment_sizes() { in_ns "$1" nft -j list set ip syns sizes | jq -r '[.nftables[].set? // empty | .elem[]] | join(" ")'; }

tcp_both_ways() { # DESCRIPTION TUNNEL-MTU
    local what=$1 mtu=$2 side
    for side in c1 inner; do segment_sizes_begin "$side"; done
    check "$what: the customer fetches $FILE_BYTES octets" fetch c1 --interface "$(customer_host 1)" "$INNER_HOST"
    check "$what: the inner host fetches $FILE_BYTES octets" fetch inner "$(customer_host 1)"
    for side in c1 inner; do
        equal "$what: MSS that $side is told" $((mtu - 40)) "$(segment_sizes "$side")"
    done
    equal "$what: pings of the tunnel's MTU, not to be fragmented" "6 6" \
        "$(from_customer 6 1 --df --size $((mtu - 28)))"
}

whole_story() { # SUITE PORT TUNNEL-MTU
    local what="$1 from port $2" began
    began=$(now_us)
    C_ESP=$1 C_PORT=$2 customer_config 1
    check "$what: tunnel" customer_up 1
    native "$what" "$1"
    pings_over_rekeys "$what"
    tcp_both_ways "$what" "$3"
    check "$what: close" customer_down 1
    eventually "$what: no SA is left anywhere" 10 every_node no_sas
    equal "$what: errors that the customer's kernel counted" "" "$(kernel_errors)"
    say "$what: $PINGS of $PINGS both ways over $REKEYS rekeys, by every node; TCP both ways ($(ms $(($(now_us) - began))) ms)"
}

# ---------------------------------------------------------------- 2. suites

every_suite() {
    local i suite port what
    for i in "${!SUITES[@]}"; do
        suite=${SUITES[i]}
        port=${PORTS[i % 2]}
        what="$suite from port $port"
        C_ESP=$suite C_PORT=$port customer_config 1
        check "$what: tunnel" customer_up 1
        native "$what" "$suite"
        pings_both_ways "$what" 20
        check "$what: rekey" customer_rekey 1
        pings_both_ways "$what, rekeyed" 20
        check "$what: close" customer_down 1
        eventually "$what: no SA is left anywhere" 10 every_node no_sas
    done
    equal "errors that the customer's kernel counted" "" "$(kernel_errors)"
    say "native ESP: ${SUITES[*]}"
}

# ---------------------------------------------------------------- 3. GRE

# gre_device NAME NUMBER OPTIONS...: the guest sends what comes from the prefix of
# customer NUMBER through a GRE device; its hosts are in c1 as well
gre_device() {
    local name=$1 n=$2 lines
    shift 2
    ip -n "$(ns c1)" addr add "$(customer_host "$n")/32" dev lo
    lines="ip tunnel add $name mode gre local $(customer_addr 1) remote $ANYCAST ttl 64 $*
           ip link set $name up
           ip route add default dev $name table $((100 + n))
           ip rule add from $(customer_net "$n") lookup $((100 + n))"
    check "$name: the kernel makes the device" uml_run 1 sh -ec "$lines"
}

gre_pings() { # DESCRIPTION NUMBER
    local what=$1 in0 out0
    in0=$(counters in)
    out0=$(counters out)
    pings_both_ways "$what" "$PINGS" "$2"
    thirds "$what" $((2 * PINGS)) in "$in0"
    thirds "$what" $((2 * PINGS)) out "$out0"
    say "$what: $PINGS of $PINGS both ways, by every node"
}

gre() {
    gre_device gre-plain 2
    gre_device gre-key 3 key 7
    gre_pings "GRE" 2
    gre_pings "GRE with key 7" 3
    check "the kernel sends checksums" uml_run 1 ip tunnel change gre-plain mode gre \
        local "$(customer_addr 1)" remote "$ANYCAST" ttl 64 ocsum
    gre_pings "GRE with checksums" 2
}

# ---------------------------------------------------------------- all of it

test_begin native_esp 140
for tool in linux.uml modprobe; do
    command -v "$tool" >/dev/null || skip "$tool is missing (deploy/install-packages; user-mode-linux is for amd64 only)"
done
lab_begin 3 1
net_up
set_fact customers 0 # its tunnel opts in to NULL
config_begin
set_fact customers 1
config_ipsec_tunnel c1 "$(customer_addr 1)" "$(customer_net 1)" 1 "allow_null_cipher: true"
config_gre_tunnel gre-plain "$(customer_addr 1)" "$(customer_net 2)" 2
config_gre_tunnel gre-key "$(customer_addr 1)" "$(customer_net 3)" 3 "gre_key: 7"
config_end
uml_start 1
for node in $(all_nodes); do node_start "$node"; done
for node in $(all_nodes); do node_wait_ready "$node"; done
uml_ready 1
net_spray on
net_egress_spray on
servers_up

# 1500 less outer IP, ESP header, IV and ICV; of whole cipher blocks, less their trailer
whole_story aes256gcm16 500 1446
whole_story aes256-sha256 4500 1438
every_suite
gre
for node in $(all_nodes); do # the node's own kernel tries the TUN device with IPv6: no_route
    equal "n$node: other drops" "" "$(node_drops "$node" | grep -v '^no_route ' || true)"
done
test_end
