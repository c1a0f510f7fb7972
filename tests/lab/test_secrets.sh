#!/usr/bin/env bash
# No key leaves custody: the PSKs, the cluster key and the keys that the customer's
# strongSwan itself says it uses (SK_*, ESP encryption and integrity keys, the shared
# secret) are looked for in logs (at debug level), API answers, journals, on the mesh, and
# in the nodes' memory outside the pages that are locked and kept out of dumps. A crash
# leaves no core, and no process of the same user may look into a node.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

API=(/healthz /readyz /v1/cluster /v1/nodes /v1/tunnels /v1/ike-sas /v1/child-sas /v1/routes /metrics)

# ask_everything INTO: every answer of every node, and what the CLI prints
ask_everything() {
    local i path
    mkdir -p "$1"
    for i in $(alive_nodes); do
        for path in "${API[@]}" "/v1/tunnels/$(tunnel_id c1)"; do
            in_ns "n$i" curl -s --max-time 3 "http://127.0.0.1:8080$path" >"$1/n$i${path//\//_}" || true
        done
        for path in status nodes tunnels sas; do
            in_ns "n$i" "$BIN/anysa" --json $path >"$1/n$i-cli-$path" 2>&1 || true
        done
    done
}

# journals INTO: a copy of each state directory while the nodes still run (database,
# write-ahead log) and once more after they have ended
journals() { local i; for i in $(all_nodes); do cp -r "$(node_dir "$i")/state" "$1/n$i"; done; }

audit() { "$PYTHON" "$TESTS_LAB/find_secrets.py" "${canaries[@]}" -- "$@"; }

# pids: of the nodes
pids() { local i; for i in $(all_nodes); do pid_of "n$i"; done; }

# memory WHEN CANARY...: these keys are found in custody, and none elsewhere
memory() {
    local report name when=$1
    shift
    # shellcheck disable=SC2046
    report=$("$PYTHON" "$TESTS_LAB/find_in_memory.py" "${canaries[@]}" $(pids)) || fail "$when: keys in the open: $report"
    for name in "$@"; do
        check "$when: '$name' was found in custody" grep -q "custody.*$name" <<<"$report"
    done
    say "$when: $report"
}

# uid 0 with all that a node may do and more, but no right to trace
weak_root=(setpriv "--bounding-set=-all,+net_admin,+net_raw,+ipc_lock,+dac_override" --inh-caps=-all --)

test_begin secrets 140
export C_LOG=4 NODE_LOG=debug
lab_begin 3 2
set_fact containers no
net_up
config_begin
# one tunnel's key stands in the YAML file itself
sed -i "s|psk_file: psk/c2|psk: \"$(cat "$STATE/common/psk/c2")\"|" "$STATE/common/tunnels"
config_end
for node in $(all_nodes); do chmod 600 "$(node_dir "$node")/tunnels.yaml"; done
mkdir "$STATE/cores"
cd "$STATE/cores"
ulimit -c unlimited
lab_start
capture="$STATE/mesh.pcap"
spawn mesh "$STATE/mesh.log" nsenter --net="$(ns_path mesh)" -- tcpdump -i br0 -n --immediate-mode -Z root -w "$capture" tcp
wait_until 5 grep -q 'listening on' "$STATE/mesh.log" || fail "tcpdump did not start"
net_spray on
net_egress_spray on

check "c1: tunnel" customer_up 1
C_ESP=aes256-sha256 C_IKE=aes256-sha256-prfsha512-modp2048 customer_config 2
check "c2: tunnel" customer_up 2
customer_rekey 1
equal "pings" "20 20" "$(customer_ping 1 20 0.01)"
# a failure puts IDs and reasons into logs and API; it must put nothing else there
customer_down 2
C_PSK=a-wrong-passphrase-as-a-canary customer_config 2
if customer_up 2; then fail "a wrong PSK was taken"; fi

printf 'a-wrong-passphrase-as-a-canary\n' >"$STATE/wrong"
canaries=(--charon-log "$(customer_dir 1)/run/charon.log" --charon-log "$(customer_dir 2)/run/charon.log"
    --hex "$STATE/common/cluster.key" --text "$STATE/common/psk/c1" --text "$STATE/common/psk/c2" --text "$STATE/wrong")

memory "after traffic and rekeys" "cluster key" "encryption initiator key" "integrity initiator key" "Sk_d secret"
equal "n1: key memory that is not locked" 0 "$(node_metric 1 'anysa_key_memory_bytes{locked="no"}')"
for node in $(all_nodes); do
    pid=$(pid_of "n$node")
    if "${weak_root[@]}" cat "/proc/$pid/environ" >/dev/null 2>&1; then fail "n$node: a process of the same user looks inside"; fi
    if "${weak_root[@]}" head -c 1 "/proc/$pid/mem" 2>&1 | grep -q 'Input/output'; then fail "n$node: its memory can be opened"; fi
done
"${weak_root[@]}" sleep 60 &
eventually "(the same user may look into other processes)" 2 "${weak_root[@]}" cat "/proc/$!/environ"

# A crash leaves no core where another process leaves one.
kill -s SEGV "$!"
wait "$!" 2>/dev/null || true
cores_before=$(find "$STATE/cores" -type f | wc -l)
node_crash=2
net_withdraw "$node_crash"
# root may raise the limit; it is of no use
prlimit --pid "$(pid_of "n$node_crash")" --core=unlimited:unlimited 2>/dev/null ||
    say "(here not even root may raise the limit of cores)"
end_process "n$node_crash" SEGV
equal "cores after a crash of anysad" "$cores_before" "$(find "$STATE/cores" -type f | wc -l)"
grep -q '^|' /proc/sys/kernel/core_pattern || equal "cores of another program" 1 "$cores_before"
node_start "$node_crash"
node_wait_ready "$node_crash"

out="$STATE/out"
mkdir -p "$out/live" "$out/ended" "$out/logs"
ask_everything "$out/api"
journals "$out/live"
net_withdraw 3
node_kill 3
node_start 3
node_wait_ready 3
memory "after crashes" "cluster key" "encryption initiator key" "Sk_d secret"
for node in $(all_nodes); do node_stop "$node"; done
journals "$out/ended"
capture_stop mesh
for node in $(all_nodes); do cp "$(node_dir "$node")/anysad.log" "$out/logs/n$node.log"; done

check "the mesh was captured" [ "$(stat -c %s "$capture")" -gt 100000 ]
check "journals were there to be searched" test -n "$(find "$out/live" -type f -size +0)"
check "the API answered" test -s "$out/api/n1_v1_child-sas"
report=$(audit "$out" "$capture") || fail "secrets in the open: $report"
say "$report"
for name in "encryption initiator key" "integrity initiator key" SKEYSEED "cluster key" "PSK c1"; do
    check "'$name' is among the canaries" grep -q "$name" <<<"$report"
done

# The search itself can fail: put one ESP key, in base64, into a copy of a log.
"$PYTHON" - "$(customer_dir 1)/run/charon.log" "$TESTS_LAB" >"$STATE/planted.log" <<'PY'
import base64, sys
sys.path.insert(0, sys.argv[2])
sys.dont_write_bytecode = True
import find_secrets
key = [octets for name, octets in find_secrets.charon_keys(sys.argv[1]) if name.startswith("encryption")][0]
print("debug:", base64.b64encode(b"xy" + key).decode())
PY
if audit "$STATE/planted.log" >/dev/null; then fail "the search does not find a planted key"; fi
test_end
