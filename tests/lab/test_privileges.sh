#!/usr/bin/env bash
# A node in service may do little: its loop thread changes routes (NET_ADMIN) and locks memory,
# all other threads only lock memory, no thread gets anything back by running a program, and
# system calls that a node never makes fail. With that it still rekeys, reloads, restarts and
# takes its routes away at the end.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

NET_ADMIN_AND_IPC_LOCK=0000000000005000
IPC_LOCK=0000000000004000

# status_of TASK FIELD: of /proc/PID/task/TID/status
status_of() { awk -v field="$2:" '$1 == field { print $2 }' "$1/status"; }

# rights NODE: what each thread of it may do
rights() {
    local pid task field wanted
    pid=$(pid_of "n$1")
    for task in /proc/"$pid"/task/*; do
        wanted=$IPC_LOCK
        [ "${task##*/}" != "$pid" ] || wanted=$NET_ADMIN_AND_IPC_LOCK
        for field in CapPrm CapEff CapBnd; do
            equal "n$1: $field of $(cat "$task/comm")" "$wanted" "$(status_of "$task" $field)"
        done
        for field in CapInh CapAmb; do
            equal "n$1: $field of $(cat "$task/comm")" 0000000000000000 "$(status_of "$task" $field)"
        done
        equal "n$1: NoNewPrivs of $(cat "$task/comm")" 1 "$(status_of "$task" NoNewPrivs)"
        equal "n$1: Seccomp of $(cat "$task/comm")" 2 "$(status_of "$task" Seccomp)"
    done
}

# our_routes NODE: prefixes that it put into the kernel's table
our_routes() { in_ns "n$1" ip route show proto 157 | awk '{ print $1 }' | sort | paste -sd' '; }
has_route() { [[ " $(our_routes "$1") " == *" $2 "* ]]; }

test_begin privileges 80
lab_up 2 1 no
for node in $(all_nodes); do rights "$node"; done

check "c1: tunnel" customer_up 1
equal "pings" "20 20" "$(customer_ping 1 20 0.01)"
check "c1: rekey" router_rekeys 1 child

# A reload with a new route, which needs NET_ADMIN, and a new key, which needs the files.
config_route 203.0.113.192/28 c1
config_end
for node in $(all_nodes); do
    if has_route "$node" 203.0.113.192/28; then fail "n$node: the route is there before the reload"; fi
    kill -s HUP "$(pid_of "n$node")"
    eventually "n$node: the new route" 5 has_route "$node" 203.0.113.192/28
    rights "$node"
done
equal "pings after the reload" "20 20" "$(customer_ping 1 20 0.01)"

# At the end the routes go; a restart brings all of it back.
net_withdraw 1
node_stop 1
equal "n1: routes left behind" "" "$(our_routes 1)"
if node_log 1 | grep -E 'not permitted|denied'; then fail "n1: something was refused that it needs"; fi
node_start 1
node_wait_ready 1
net_announce 1
rights 1
check "n1: routes after the restart" has_route 1 203.0.113.192/28
equal "pings after the restart" "20 20" "$(customer_ping 1 20 0.01)"
check "c1: IKE rekey" router_rekeys 1 ike

# The kernel says that this machine is another one: who may be a copy stops, and its successor works.
uevent() { # NODE STRING...: as a driver of the kernel would send it
    local node=$1
    shift
    in_ns "n$node" "$PYTHON" - "$@" <<-'SEND'
	import socket, struct, sys
	payload = b"\0".join(s.encode() for s in sys.argv[1:]) + b"\0"
	with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as s:  # NETLINK_KOBJECT_UEVENT
	    s.bind((0, 0))
	    s.send(struct.pack("=IHHII", 16 + len(payload), 16, 1, 0, 0) + payload)
	SEND
}
check "a uevent can be sent" uevent 1 change@/devices/a ACTION=change NEW_VMGENID=0
sleep 0.2
check "n1: other uevents do nothing" node_ready 1
epoch=$(node_metric 1 anysa_epoch)
net_withdraw 1
check "the kernel's word" uevent 1 change@/devices/a ACTION=change NEW_VMGENID=1
eventually "n1 stops" 2 stopped_node 1
check "n1 says why" grep -q 'cloned or set back to a snapshot' <(node_log 1)
node_start 1
node_wait_ready 1
net_announce 1
check "n1: another epoch" [ "$(node_metric 1 anysa_epoch)" -gt "$epoch" ]
equal "pings after that" "20 20" "$(customer_ping 1 20 0.01)"
test_end
