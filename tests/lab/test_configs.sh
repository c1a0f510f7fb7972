#!/usr/bin/env bash
# A bad configuration is refused with file, line, column and a remedy, exit code 2, and
# nothing is started; a doubtful one warns. Table-driven: a row spoils a good
# configuration and says where the complaint must point and which word must be in it.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

# fresh: a good configuration in $dir, as the lab writes them, with a GRE tunnel
fresh() {
    rm -rf "$dir"
    cp -a "$STATE/good" "$dir"
    cd "$dir"
}

# run_anysad ARGS...: in a namespace of its own, so that a wrongly started node
# harms nobody; sets $output and $code
run_anysad() {
    code=0
    output=$(timeout 5 unshare --net -- "$BIN/anysad" "$@" 2>&1) || code=$?
}

# line_of FILE PATTERN [N]: line number of the N-th match
line_of() { grep -n -- "$2" "$1" | sed -n "${3:-1}s/:.*//p"; }

# bad DESCRIPTION FILE LINE REMEDY-PATTERN: what --check and a real start say of $dir
bad() {
    local what=$1 file=$2 line=$3 remedy=$4
    [ -n "$line" ] || fail "$what: the row itself is wrong: no such line in $file"
    run_anysad --config "$dir/node.yaml" --check
    equal "$what: --check exits" 2 "$code"
    grep -Eq "(^|[/ ])$file:$line:[0-9]+" <<<"$output" \
        || fail "$what: expected $file:$line:COLUMN in: $output"
    grep -Eiq "$remedy" <<<"$output" || fail "$what: expected a remedy like /$remedy/ in: $output"
    TEST_CHECKS=$((TEST_CHECKS + 2))
    run_anysad --config "$dir/node.yaml"
    equal "$what: a start exits" 2 "$code"
    check "$what: nothing is started (state directory untouched)" test -z "$(ls -A "$dir/state")"
    rows=$((rows + 1))
}

# fine DESCRIPTION [PATTERN]: accepted, and if given, PATTERN is in what is said
fine() {
    run_anysad --config "$dir/node.yaml" --check
    [ "$code" -eq 0 ] || fail "$1: exit $code: $output"
    [ -z "${2-}" ] || grep -Eiq "$2" <<<"$output" || fail "$1: expected /$2/ in: $output"
    TEST_CHECKS=$((TEST_CHECKS + 1))
    rows=$((rows + 1))
}

node_file() {
    fresh; sed -i 's/dead_ms: 500/dead_msec: 500/' node.yaml
    bad "unknown key" node.yaml "$(line_of node.yaml dead_msec)" 'dead_msec'
    fresh; sed -i 's/{slot: 2,/{slot: 1,/' node.yaml
    bad "duplicate slot" node.yaml "$(line_of node.yaml 'members')" 'slot'
    fresh; sed -i 's/slot: 1, state_dir/slot: 9, state_dir/' node.yaml
    bad "own slot not among the members" node.yaml "$(line_of node.yaml 'state_dir')" 'member'
    fresh; sed -i 's/slot: 1, state_dir/slot: 1023, state_dir/' node.yaml
    bad "slot out of range" node.yaml "$(line_of node.yaml 'state_dir')" '1022'
    fresh; sed -i 's/source: auto/source: xdp/' node.yaml
    bad "a value not supported yet" node.yaml "$(line_of node.yaml 'source:')" 'xdp'
    fresh; sed -i 's/lanes: 1/lanes: many/' node.yaml
    bad "not a number" node.yaml "$(line_of node.yaml 'lanes:')" 'lanes|number|integer'
    fresh; sed -i 's/addresses: \[192.0.2.1\]/addresses: [192.0.2.256]/' node.yaml
    bad "a bad address" node.yaml "$(line_of node.yaml 'addresses:')" 'address'
    fresh; sed -i '/^anycast:/d' node.yaml
    run_anysad --config "$dir/node.yaml" --check
    equal "anycast missing: exits" 2 "$code"
    check "anycast missing: is named" grep -q anycast <<<"$output"
}

secret_files() {
    fresh; rm cluster.key
    bad "missing key file" node.yaml "$(line_of node.yaml 'key_file')" 'cluster-key generate|no such file|create'
    fresh; chmod 644 cluster.key
    bad "world-readable key file" node.yaml "$(line_of node.yaml 'key_file')" 'chmod|0?600|permission'
    fresh; echo 'k1 nonsense' >cluster.key
    bad "a key file with nonsense" cluster.key 1 'hex|64'
    fresh; chmod 640 psk/c1
    bad "group-readable PSK" tunnels.yaml "$(line_of tunnels.yaml 'psk_file')" 'chmod|0?600|permission'
    fresh; rm psk/c1
    bad "missing PSK file" tunnels.yaml "$(line_of tunnels.yaml 'psk_file')" 'psk generate|no such file|create'
    fresh; sed -i 's/psk_file: .*/psk: written-into-the-file/' tunnels.yaml; chmod 644 tunnels.yaml
    bad "an inline PSK in a readable file" tunnels.yaml "$(line_of tunnels.yaml 'psk:')" 'chmod|0?600|permission'
    check "the PSK is not repeated in the message" test -z "$(grep written-into <<<"$output")"
    fresh; sed -i 's/psk_file: .*/psk: written-into-the-file/' tunnels.yaml; chmod 600 tunnels.yaml
    fine "an inline PSK in a private file"
}

tunnel_file() {
    local id
    id=$(tunnel_id c1)
    fresh; sed -i "s/$(tunnel_id g1)/$id/" tunnels.yaml
    bad "duplicate tunnel id" tunnels.yaml "$(line_of tunnels.yaml "id: $id" 2)" 'id'
    fresh; sed -i "s/id: $id/id: 12345/" tunnels.yaml
    bad "an id that is not 32 hex digits" tunnels.yaml "$(line_of tunnels.yaml 'id: 12345')" '32'
    fresh; sed -i 's/customer_endpoint: 198.51.100.32/customer_endpoint: 198.51.100.31/; /gre_key/d' tunnels.yaml
    bad "two GRE tunnels alike" tunnels.yaml '[0-9]+' 'gre_key|endpoint'
    fresh; sed -i 's#prefix: 203.0.113.16/28#prefix: 203.0.113.16/33#' tunnels.yaml
    bad "a bad prefix" tunnels.yaml "$(line_of tunnels.yaml '/33')" 'prefix|32'
    fresh; sed -i "s/{prefix: \(.*\) tunnel: $id/{prefix: \1 tunnel: $(tunnel_id nobody)/" tunnels.yaml
    bad "a route to no tunnel" tunnels.yaml "$(line_of tunnels.yaml "$(tunnel_id nobody)")" 'tunnel'
    fresh; sed -i '0,/type: ipsec/s//type: vxlan/' tunnels.yaml
    bad "an unknown type" tunnels.yaml "$(line_of tunnels.yaml 'vxlan')" 'ipsec|gre'
    fresh; sed -i 's/^    anycast_endpoint: 192.0.2.1$/    anycast_endpoint: 192.0.2.9/' tunnels.yaml
    bad "an endpoint that is not ours" tunnels.yaml "$(line_of tunnels.yaml '192.0.2.9')" 'anycast'
    fresh; sed -i 's/^    psk_file/    pks_file/' tunnels.yaml
    bad "an unknown key of a tunnel" tunnels.yaml "$(line_of tunnels.yaml 'pks_file')" 'pks_file'
    fresh; printf '  - [oops\n' >>tunnels.yaml
    bad "broken YAML" tunnels.yaml '[0-9]+' '.'
    fresh; sed -i 's/anycast_endpoint/cloudflare_endpoint/' tunnels.yaml
    fine "the other name of anycast_endpoint"
    fresh; sed -i 's/customer_endpoint: 198.51.100.12/customer_endpoint: 198.51.100.11/' tunnels.yaml
    fine "two IPsec tunnels share an endpoint pair" 'warn.*198\.51\.100\.11|198\.51\.100\.11.*ID_IPV4_ADDR'
}

test_begin configs 60
mkdir -p "$(dirname "$STATE")"
lab_begin 3 2
config_begin
config_gre_tunnel g1 198.51.100.31 203.0.113.48/28 3
config_gre_tunnel g2 198.51.100.32 203.0.113.64/28 4 "gre_key: 7"
config_end
cp -a "$(node_dir 1)" "$STATE/good"
dir="$STATE/bad"
rows=0
fresh
fine "the lab's own configuration"
node_file
secret_files
tunnel_file
cd /
run_anysad --config "$dir/no-such.yaml"
equal "no configuration file: exits" 2 "$code"
run_anysad --no-such-option
equal "an unknown option: exits" 2 "$code"
say "$rows configurations"
test_end
