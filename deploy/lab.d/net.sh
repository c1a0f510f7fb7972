# shellcheck shell=bash
# The lab's network: namespaces, links, ECMP, per-packet spray. Sourced by lib.sh.
#
# Two routers choose the node that a packet meets:
#   rtr   customer -> cluster: ECMP over the 5-tuple; as IKE goes to ports 500 and
#         4500 and ESP to yet other hashes, one customer lands on several nodes
#   irtr  inner -> customer: ECMP over the addresses alone, so that one customer's
#         packets come from one node
# "spray" replaces either choice by taking turns, packet by packet.

# net_up: every namespace and link of the lab; nothing of anysa runs yet
net_up() {
    local i
    set_fact nat "${C_NAT:-}"
    net_routers_up
    for i in $(all_nodes); do net_node_up "$i"; done
    for i in $(seq 1 "$(customer_count)"); do net_customer_up "$i"; done
    net_ecmp
}

# link NS NAME PEER_NS PEER_NAME: a veth pair, both ends up
link() {
    ip link add "$2" netns "$(ns "$1")" type veth peer name "$4" netns "$(ns "$3")"
    ip -n "$(ns "$1")" link set "$2" up
    ip -n "$(ns "$3")" link set "$4" up
}

net_routers_up() {
    local router
    for router in rtr irtr; do
        ns_add "$router"
        ns_sysctl "$router" net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 \
            net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.send_redirects=0 \
            net.ipv4.conf.default.send_redirects=0
    done
    # Addresses, protocol and ports (0x37), by policy 3: policy 1 would take the hash of the
    # sending socket, which crosses namespaces and is random for each.
    ns_sysctl rtr net.ipv4.fib_multipath_hash_policy=3 net.ipv4.fib_multipath_hash_fields=0x37
    ns_sysctl irtr net.ipv4.fib_multipath_hash_policy=0

    ns_add inner
    link irtr inner inner eth0
    ip -n "$(ns irtr)" addr add 10.200.0.1/24 dev inner
    ip -n "$(ns inner)" addr add "$INNER_HOST/24" dev eth0
    ip -n "$(ns inner)" route add default via 10.200.0.1

    ns_add mesh
    ip -n "$(ns mesh)" link add br0 type bridge
    ip -n "$(ns mesh)" link set br0 up
    # Bridged packets need not visit the packet filter, where the kernel offers that.
    in_ns mesh sysctl -q -w net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true
}

net_node_up() {
    local i=$1 node
    node=$(ns "n$i")
    ns_add "n$i"
    ns_sysctl "n$i" net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 \
        net.ipv4.conf.default.rp_filter=0 net.ipv6.conf.all.forwarding=1
    link rtr "n$i" "n$i" up0
    link irtr "n$i" "n$i" in0
    link mesh "n$i" "n$i" mesh0
    ip -n "$(ns mesh)" link set "n$i" master br0
    ip -n "$(ns rtr)" addr add "10.98.$i.0/31" dev "n$i"
    ip -n "$(ns irtr)" addr add "10.97.$i.0/31" dev "n$i"
    ip -n "$node" addr add "10.98.$i.1/31" dev up0
    ip -n "$node" addr add "10.97.$i.1/31" dev in0
    ip -n "$node" addr add "10.99.0.$i/24" dev mesh0
    ip -n "$node" addr add "$ANYCAST/32" dev lo
    ip -n "$node" route add default via "10.98.$i.0" dev up0
    ip -n "$node" route add "$INNER_NET" via "10.97.$i.0" dev in0
}

net_customer_up() {
    local i=$1 outside=c$i
    ns_add "c$i"
    ip -n "$(ns "c$i")" addr add "$(customer_host "$i")/32" dev lo
    if behind_nat "$i"; then
        nat_up "$i"
        outside=nat$i
    fi
    link rtr "c$i" "$outside" up0
    ip -n "$(ns rtr)" addr add 198.51.100.254/32 dev "c$i"
    ip -n "$(ns rtr)" route add "$(customer_addr "$i")/32" dev "c$i"
    ip -n "$(ns "$outside")" addr add "$(customer_addr "$i")/32" dev up0
    ip -n "$(ns "$outside")" route add 198.51.100.254/32 dev up0
    ip -n "$(ns "$outside")" route add default via 198.51.100.254 dev up0
}

# ---------------------------------------------------------------- choosing nodes

alive_nodes() { fact alive; }

# rotated_nodes: the nodes in service, turned by as many places as there were rehashes
rotated_nodes() {
    local -a list
    local turn
    read -r -a list <<<"$(alive_nodes)"
    [ "${#list[@]}" -gt 0 ] || return 0
    turn=$(($(fact rotation 0) % ${#list[@]}))
    printf '%s ' "${list[@]:turn}" "${list[@]:0:turn}"
}

# net_ecmp: points both routers' ECMP (and any spray) at the nodes in service
net_ecmp() {
    local i
    local -a up=() down=()
    for i in $(rotated_nodes); do
        up+=(nexthop via "10.98.$i.1" dev "n$i")
        down+=(nexthop via "10.97.$i.1" dev "n$i")
    done
    if [ "${#up[@]}" -eq 0 ]; then
        ip -n "$(ns rtr)" route replace unreachable "$ANYCAST/32"
        ip -n "$(ns irtr)" route replace unreachable "$CUSTOMER_NETS"
        return
    fi
    ip -n "$(ns rtr)" route replace "$ANYCAST/32" "${up[@]}"
    ip -n "$(ns irtr)" route replace "$CUSTOMER_NETS" "${down[@]}"
    [ "$(fact spray off)" = off ] || spray_router rtr "ip daddr $ANYCAST" 10.98
    [ "$(fact egress_spray off)" = off ] || spray_router irtr "ip daddr $CUSTOMER_NETS" 10.97
}

# net_rehash: every flow moves on to the next node
net_rehash() {
    set_fact rotation $(($(fact rotation 0) + 1))
    net_ecmp
}

# net_withdraw NODE, net_announce NODE: what BGP does when a node goes or comes
net_withdraw() {
    local i rest=""
    for i in $(alive_nodes); do [ "$i" = "$1" ] || rest+="$i "; done
    set_fact alive "${rest% }"
    net_ecmp
}
net_announce() {
    set_fact alive "$({ tr ' ' '\n' <<<"$(alive_nodes)"; echo "$1"; } | sed '/^$/d' | sort -nu | paste -sd ' ')"
    net_ecmp
}

# ---------------------------------------------------------------- spray

# spray_router ROUTER MATCH LINK_PREFIX: each matching packet is marked with the
# next node's number in turn, and the mark chooses the route.
spray_router() {
    local router=$1 match=$2 prefix=$3 i turn=0 map=""
    local -a list
    read -r -a list <<<"$(alive_nodes)"
    [ "${#list[@]}" -gt 0 ] || return 0
    for i in "${list[@]}"; do
        map+="$turn : $i, "
        turn=$((turn + 1))
        ip -n "$(ns "$router")" route replace default via "$prefix.$i.1" dev "n$i" table "$((100 + i))"
        ip -n "$(ns "$router")" rule del fwmark "$i" lookup "$((100 + i))" 2>/dev/null || true
        ip -n "$(ns "$router")" rule add fwmark "$i" lookup "$((100 + i))"
    done
    in_ns "$router" nft -f - <<NFT
table ip spray
delete table ip spray
table ip spray {
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        $match meta mark set numgen inc mod ${#list[@]} map { ${map%, } }
    }
}
NFT
}

# net_spray on|off: customer -> cluster, IKE too
net_spray() {
    set_fact spray "$1"
    in_ns rtr nft delete table ip spray 2>/dev/null || true
    net_ecmp
}

# net_egress_spray on|off: inner -> customer. The customer must run without an
# anti-replay window (customer_start does that), as nodes count independently.
net_egress_spray() {
    set_fact egress_spray "$1"
    in_ns irtr nft delete table ip spray 2>/dev/null || true
    net_ecmp
}

# net_pin NODE|none: all inner -> customer packets through one node
net_pin() { pin_router irtr "ip daddr $CUSTOMER_NETS" 10.97 "$1"; }

# net_pin_ingress NODE|none: all customer -> cluster packets to one node
net_pin_ingress() { pin_router rtr "ip daddr $ANYCAST" 10.98 "$1"; }

# pin_router ROUTER MATCH LINK_PREFIX NODE|none: stronger than ECMP and spray
pin_router() {
    local router=$1 match=$2 prefix=$3 node=$4 table
    in_ns "$router" nft delete table ip pin 2>/dev/null || true
    [ "$node" != none ] || return 0
    table=$((200 + node))
    ip -n "$(ns "$router")" route replace default via "$prefix.$node.1" dev "n$node" table "$table"
    ip -n "$(ns "$router")" rule del fwmark "$table" lookup "$table" 2>/dev/null || true
    ip -n "$(ns "$router")" rule add fwmark "$table" lookup "$table"
    in_ns "$router" nft -f - <<NFT
table ip pin {
    chain prerouting {
        type filter hook prerouting priority mangle + 1; policy accept;
        $match meta mark set $table
    }
}
NFT
}

# net_no_offload: nodes hand over single packets, never merged ones, so that a
# capture on the routers sees each as it would be on a wire
net_no_offload() {
    local i
    for i in $(all_nodes); do
        ip -n "$(ns "n$i")" link set up0 gso_max_segs 1
    done
}

# ---------------------------------------------------------------- captures

# capture_start NAME NS FILE FILTER...: tcpdump of what enters NS, headers only
capture_start() {
    local name=$1 where=$2 file=$3
    shift 3
    spawn "$name" "$STATE/$name.log" nsenter --net="$(ns_path "$where")" -- \
        tcpdump -i any -Q in -n -p -Z root -s 96 -B 32768 -w "$file" "$*"
    wait_until 5 grep -q 'listening on' "$STATE/$name.log" || die "tcpdump did not start: see $STATE/$name.log"
}

# tcpdump hands over what the kernel has gathered once a second
capture_stop() { sleep 1.1; end_process "$1" INT; }
