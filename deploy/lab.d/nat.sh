# shellcheck shell=bash
# NAT boxes between customers and the router, for the customers that C_NAT names when
# net_up runs. Sourced by lib.sh.
#
#    cI  192.168.I.2 ---- 192.168.I.1  natI  198.51.100.(10+I) ---- rtr
#
# The box is a Linux router with source NAT and connection tracking: what comes from
# outside to a port that has no mapping is refused.

behind_nat() { [[ " $(fact nat) " == *" $1 "* ]]; }

# customer_local CUSTOMER: the outer address as the customer itself has it
customer_local() { if behind_nat "$1"; then printf '192.168.%d.2' "$1"; else customer_addr "$1"; fi; }

# nat_up CUSTOMER: the box and its inside; net_customer_up makes the outside
nat_up() {
    local i=$1
    ns_add "nat$i"
    ns_sysctl "nat$i" net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    link "nat$i" in0 "c$i" up0
    ip -n "$(ns "nat$i")" addr add "192.168.$i.1/24" dev in0
    ip -n "$(ns "c$i")" addr add "192.168.$i.2/24" dev up0
    ip -n "$(ns "c$i")" route add default via "192.168.$i.1" dev up0
    nat_map "$i" "$(customer_addr "$i")"
}

# nat_map CUSTOMER ADDRESS [PORT]: from now on flows leave from ADDRESS, those towards
# port 4500 from PORT (default: the port that the customer uses). Old mappings are gone.
nat_map() {
    local i=$1 address=$2 port=${3-}
    in_ns "nat$i" nft -f - <<NFT
table ip nat
delete table ip nat
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "up0" udp dport 4500 snat to $address${port:+:$port}
        oifname "up0" snat to $address
    }
}
NFT
    in_ns "nat$i" "$PYTHON" "$LAB_D/flush_conntrack.py"
}

# nat_address CUSTOMER ADDRESS: one more outside address for the box
nat_address() {
    ip -n "$(ns "nat$1")" addr add "$2/32" dev up0
    ip -n "$(ns rtr)" route add "$2/32" dev "c$1"
}
