#!/usr/bin/env bash
# What a node does when its disk does not.
#
#   1. the disk fills up while a customer rekeys: /readyz says so, packets and rekeys go on, the
#      answers of that node wait for the barrier's time-out and name it, those of the others do not
#   2. there is room again: the node is ready by itself, and its journal alone, after all were killed
#      and the other two lost theirs, brings everything back
#   3. a damaged journal is set aside, and the node has everything from its peers
#   4. a journal of another slot is not touched, and the node says what to do
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

# n2's disk: a small file system of its own, gone before the lab is
disk=""
test_undo() {
    [ -z "$disk" ] || umount -l "$disk"
    disk=""
}

fingerprints() { node_list "$1" /v1/child-sas | jq -r '.spi_in + " " + .spi_out + " " + .key_fingerprint' | sort; }
readyz() { in_ns "n$1" curl -s --max-time 2 http://127.0.0.1:8080/readyz; }
says_full() { readyz 2 | jq -e '.reasons == ["journal_failed"] and (.details.journal_failed | test("full"))' >/dev/null; }
nothing_waits() { [ "$(node_metric 2 anysa_journal_waiting)" -eq 0 ]; }
start_all() {
    for node in 1 2 3; do node_start "$node"; done
    for node in 1 2 3; do node_wait_ready "$node"; done
}

test_begin disk 120
lab_up 3 2 no
node_kill 2
mount -t tmpfs -o size=1536k,mode=700 "$LAB-disk" "$(node_dir 2)/state" || skip "cannot mount a tmpfs"
disk="$(node_dir 2)/state"
node_start 2
node_wait_ready 2

net_pin_ingress 2 # n2 is to own c1's IKE SA, n1 c2's
customer_up 1 || fail "no tunnel for c1"
net_pin_ingress 1
customer_up 2 || fail "no tunnel for c2"
net_pin_ingress none
net_spray on
net_egress_spray on
eventually "all nodes hold both SAs" 5 same_sas
equal "owners" "1 2" "$(node_list 1 /v1/ike-sas | jq -r .owner | sort | paste -sd ' ')"

# ---- full
pings_start 1 0.02
mark=$(log_mark 2)
timeouts=$(node_metric 2 anysa_barrier_timeouts_total)
others=$(node_metric 1 anysa_barrier_timeouts_total)
dd if=/dev/zero of="$disk/filler" bs=4096 2>/dev/null || true
equal "bytes left on n2's disk" 0 "$(df --output=avail "$disk" | tail -n 1 | tr -d ' ')"
check "c1 rekeys its Child SA while n2's disk is full" router_rekeys 1 child
eventually "/readyz of n2 tells why" 3 says_full
check "c1 rekeys its IKE SA" router_rekeys 1 ike
check "c2 rekeys at n1" router_rekeys 2 child
between "time-outs at n2" 1 1000 $(($(node_metric 2 anysa_barrier_timeouts_total) - timeouts))
equal "time-outs at n1" 0 $(($(node_metric 1 anysa_barrier_timeouts_total) - others))
check "n2 names itself" grep -q "a barrier timed out: member 2 has not acknowledged" <(log_since 2 "$mark")
check "n2 names nobody else" [ "$(log_since 2 "$mark" | grep -c 'a barrier timed out: member [13]')" -eq 0 ]
check "the log names the remedy" grep -q "cannot be written (.*full): free the disk" <(log_since 2 "$mark")
check "the log is not flooded" [ "$(log_since 2 "$mark" | grep -c 'journal: ')" -le 4 ]
check "records wait" [ "$(node_metric 2 anysa_journal_waiting)" -gt 0 ]
equal "the gauge" 1 "$(node_metric 2 anysa_journal_failed)"
check "anysa status tells why" grep -q "journal_failed.*full" <(in_ns n2 "$BIN/anysa" status || true)
eventually "all nodes hold the same SAs" 5 same_sas
pings_end "while n2's disk was full" 1 50

# ---- room again
rm "$disk/filler"
eventually "n2 is ready by itself" 3 node_ready 2
check "the log says so" grep -q "the journal writes again" <(log_since 2 "$mark")
eventually "nothing waits" 3 nothing_waits
all=$(fingerprints 2)
for node in 1 2 3; do node_kill "$node"; done
for node in 1 3; do
    rm -rf "$(node_dir "$node")/state"
    mkdir -m 700 "$(node_dir "$node")/state"
done
start_all
for node in 1 2 3; do equal "n$node, from n2's journal" "$all" "$(fingerprints "$node")"; done
equal "pings of c1" "60 60" "$(customer_ping 1 60 0.01)"
check "c1 rekeys" router_rekeys 1 child

# ---- damaged
all=$(fingerprints 1)
net_withdraw 3
node_stop 3 # in order: all of it is in the database
node_wait_gone() { stopped_node 3; }
eventually "n3 has ended" 5 node_wait_gone
head -c 300 /dev/urandom | dd of="$(node_dir 3)/state/journal.db" bs=1 seek=9000 conv=notrunc 2>/dev/null
mark=$(log_mark 3)
node_start 3
node_wait_ready 3
check "n3 says what it found" grep -q "is not what was written" <(log_since 3 "$mark")
check "n3 sets it aside" grep -q "is set aside as .*journal.db.aside-1; a new one is begun" <(log_since 3 "$mark")
check "it is kept" [ -s "$(node_dir 3)/state/journal.db.aside-1" ]
equal "n3 has everything from its peers" "$all" "$(fingerprints 3)"
net_announce 3
equal "pings of c1 over all nodes" "60 60" "$(customer_ping 1 60 0.01)"

# ---- another slot's
net_withdraw 3
node_kill 3
mv "$(node_dir 3)/state" "$(node_dir 3)/state.mine"
cp -a "$(node_dir 1)/state" "$(node_dir 3)/state"
mark=$(log_mark 3)
sum=$(md5sum <"$(node_dir 3)/state/journal.db")
node_start 3
eventually "n3 does not start with n1's journal" 5 stopped_node 3
check "n3 says whose it is" grep -q "is the journal of slot 1, and this node is slot 3: give each node a state_dir" <(log_since 3 "$mark")
equal "n1's journal is as it was" "$sum" "$(md5sum <"$(node_dir 3)/state/journal.db")"
rm -rf "$(node_dir 3)/state"
mv "$(node_dir 3)/state.mine" "$(node_dir 3)/state"
node_start 3
node_wait_ready 3
equal "n3 with its own" "$all" "$(fingerprints 3)"
test_end
