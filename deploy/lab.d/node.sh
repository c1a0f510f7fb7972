# shellcheck shell=bash
# The lab's nodes: configuration files, processes, HTTP. Sourced by lib.sh.
#
# Each node has a directory $STATE/nI with its own copy of the common files:
#   node.yaml  cluster.key  tunnels.yaml  psk/*  state/  anysad.log

# ---------------------------------------------------------------- names

# tunnel_id WORD: 32 hex digits that never change for a word
tunnel_id() { printf 'anysa lab %s' "$1" | md5sum | cut -c 1-32; }

random_hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

node_dir() { printf '%s/n%s' "$STATE" "$1"; }

# node_number WORD: "2" or "n2", as people type it
node_number() {
    local n=${1#n}
    number NODE "$n" 1 "$(node_count)"
    printf '%s\n' "$((10#$n))"
}

# ---------------------------------------------------------------- configuration

# config_begin: what all nodes share, made once: cluster key and tunnels of the customers
config_begin() {
    local i
    mkdir -p -m 700 "$STATE/common/psk"
    (umask 077 && printf 'k1 %s\n' "$(random_hex 32)" >"$STATE/common/cluster.key")
    : >"$STATE/common/tunnels"
    : >"$STATE/common/routes"
    for i in $(seq 1 "$(customer_count)"); do
        config_ipsec_tunnel "c$i" "$(customer_addr "$i")" "$(customer_net "$i")" "$i"
    done
}

# config_ipsec_tunnel NAME ENDPOINT PREFIX NUMBER [EXTRA LINE...]
config_ipsec_tunnel() {
    local name=$1 endpoint=$2 prefix=$3 n=$4 line
    shift 4
    [ -e "$STATE/common/psk/$name" ] || (umask 077 && printf '%s\n' "$(random_hex 24)" >"$STATE/common/psk/$name")
    {
        cat <<YAML
  - id: $(tunnel_id "$name")
    account_id: "$ACCOUNT"
    name: acme-$name
    type: ipsec
    anycast_endpoint: $ANYCAST
    customer_endpoint: $endpoint
    psk_file: psk/$name
    interface_address: 10.100.0.$((2 * n))/31
YAML
        for line in "$@"; do printf '    %s\n' "$line"; done
    } >>"$STATE/common/tunnels"
    config_route "$prefix" "$name"
}

# config_gre_tunnel NAME ENDPOINT PREFIX NUMBER [EXTRA LINE...]
config_gre_tunnel() {
    local name=$1 endpoint=$2 prefix=$3 n=$4 line
    shift 4
    {
        cat <<YAML
  - id: $(tunnel_id "$name")
    account_id: "$ACCOUNT"
    name: acme-$name
    type: gre
    anycast_endpoint: $ANYCAST
    customer_endpoint: $endpoint
    interface_address: 10.100.1.$((2 * n))/31
YAML
        for line in "$@"; do printf '    %s\n' "$line"; done
    } >>"$STATE/common/tunnels"
    config_route "$prefix" "$name"
}

# config_route PREFIX TUNNEL_NAME [PRIORITY]
config_route() {
    printf '  - {prefix: %s, tunnel: %s, priority: %s, weight: 1}\n' \
        "$1" "$(tunnel_id "$2")" "${3:-100}" >>"$STATE/common/routes"
}

# config_end: writes every node's directory from the common files
config_end() {
    local i
    {
        printf 'tunnels:\n'
        cat "$STATE/common/tunnels"
        printf 'routes:\n'
        cat "$STATE/common/routes"
    } >"$STATE/common/tunnels.yaml"
    for i in $(all_nodes); do config_node "$i"; done
}

config_node() {
    local i=$1 dir j members=""
    dir=$(node_dir "$i")
    mkdir -p -m 700 "$dir" "$dir/state"
    for j in $(all_nodes); do members+="{slot: $j, address: \"10.99.0.$j:7800\"}, "; done
    cat >"$dir/node.yaml" <<YAML
node:      {name: n$i, slot: $i, state_dir: state}
cluster:   {name: lab, key_file: cluster.key, id_domain: $ID_DOMAIN}
anycast:   {addresses: [$ANYCAST]}
mesh:
  members: [${members%, }]
  dead_ms: 500
http:      {listen: "127.0.0.1:8080"}
ike:       {barrier_timeout_ms: ${NODE_BARRIER:-250}, dpd_s: ${NODE_DPD:-30}, lifetime_s: ${NODE_LIFETIME:-86400}, child_lifetime_s: ${NODE_CHILD_LIFETIME:-28800}, max_children: 100,
            half_open_cookie_threshold: 64, fragment_size: ${NODE_FRAGMENT:-1280}}
dataplane: {source: auto, tun: anysa0, lanes: ${NODE_LANES:-1}}
tunnels_file: tunnels.yaml
YAML
    cp -a "$STATE/common/cluster.key" "$STATE/common/tunnels.yaml" "$STATE/common/psk" "$dir/"
}

# ---------------------------------------------------------------- processes

need_binaries() {
    [ -x "$BIN/anysad" ] && [ -x "$BIN/anysa" ] \
        || die "no anysad and anysa in $BIN: build them (cmake --preset release && cmake --build --preset release) or set ANYSA_BIN"
}

# node_start NODE [NAME=VALUE...]: starts anysad; the pairs go to its environment
node_start() {
    local i=$1 dir
    shift
    dir=$(node_dir "$i")
    ! running "n$i" || die "node n$i is running already"
    if [ "$(fact containers no)" = yes ]; then
        container_start "$i" "$@"
        return
    fi
    spawn "n$i" "$dir/anysad.log" nsenter --net="$(ns_path "n$i")" -- \
        env "$@" "$BIN/anysad" --config "$dir/node.yaml" --log-level "${NODE_LOG:-info}"
}

# node_wait_ready NODE [SECONDS]
node_wait_ready() {
    local i=$1 seconds=${2:-10}
    wait_until "$seconds" node_ready_or_gone "$i" || true
    node_ready "$i" && return
    tail -n 20 "$(node_dir "$i")/anysad.log" >&2 || true
    if stopped_node "$i"; then die "n$i: anysad has ended (log above)"; fi
    die "n$i is not ready after $seconds s: $(node_not_ready_because "$i")"
}
node_ready() { node_get "$1" /readyz >/dev/null 2>&1; }
node_ready_or_gone() { node_ready "$1" || stopped_node "$1"; }
node_not_ready_because() {
    in_ns "n$1" curl -s --max-time 2 http://127.0.0.1:8080/readyz | jq -c .reasons 2>/dev/null || echo "no HTTP answer"
}

stopped_node() {
    if [ "$(fact containers no)" = yes ]; then ! container_running "$1"; else stopped "n$1"; fi
}

# node_kill NODE: SIGKILL, as a crash would; the network is not told
node_kill() {
    if [ "$(fact containers no)" = yes ]; then container_kill "$1"; else end_process "n$1" KILL; fi
}

# node_stop NODE: SIGTERM
node_stop() {
    if [ "$(fact containers no)" = yes ]; then container_stop "$1"; else end_process "n$1" TERM 10; fi
}

node_log() { cat "$(node_dir "$1")/anysad.log"; }

# ---------------------------------------------------------------- HTTP

# node_get NODE PATH: fails unless the answer is 200
node_get() { in_ns "n$1" curl -fsS --max-time 3 "http://127.0.0.1:8080$2"; }

# node_list NODE PATH: the items of a list
node_list() { node_get "$1" "$2?limit=10000" | jq -c '.items[]'; }

# node_first NODE PATH: the first item, or nothing
node_first() { node_get "$1" "$2" 2>/dev/null | jq -c '.items[0] // empty' || true; }

ike_count()   { node_list "$1" /v1/ike-sas | wc -l; }
child_count() { node_list "$1" /v1/child-sas | wc -l; }

# node_metric NODE SERIES: value of a series written exactly so; 0 if there is none
node_metric() {
    node_get "$1" /metrics | awk -v series="$2" '$1 == series { v = $2 } END { printf "%d\n", v }'
}
node_packets() { node_metric "$1" "anysa_packets_total{direction=\"$2\"}"; }

# node_drops NODE: "reason count" of the drop reasons that are not 0
node_drops() {
    node_get "$1" /metrics | sed -n 's/^anysa_drops_total{reason="\([^"]*\)"} \(.*\)$/\1 \2/p' | awk '$2 > 0'
}

# has_child NODE SPI_IN: does the node hold the Child SA?
has_child() { node_list "$1" /v1/child-sas | jq -es --arg s "$2" 'any(.spi_in == $s)' >/dev/null; }
has_ike()   { node_list "$1" /v1/ike-sas | jq -es --arg s "$2" 'any(.spi_r == $s)' >/dev/null; }

# every_node COMMAND ARGS...: COMMAND NODE ARGS on each node in service
every_node() {
    local i command=$1
    shift
    for i in $(alive_nodes); do "$command" "$i" "$@" || return 1; done
}
