# shellcheck shell=bash
# A customer whose router is a real Linux kernel: user-mode-linux, with strongSwan on
# kernel-netlink, so ESP is the kernel's and native (protocol 50), and GRE devices.
# Source it after lib.sh.
#
# The namespace cI becomes the network behind that router, so that all of customer.sh
# works as before: pings start there, and swanctl speaks to the guest's charon by TCP.
#
#    cI: hosts, 203.0.113.(16*i+1) on lo
#     | lan0 (TAP), 10.96.i.0/31
#    guest: lan, wan; 198.51.100.(10+i); XFRM, GRE
#     | wan0 (TAP), bridged in cI with
#    up0 -- rtr
#
# The guest's root is the host's file system, read-only, and its first process
# uml-init. It runs in a process-id namespace of its own: when the recorded process
# ends, the kernel ends all that belongs to the guest. Its memory is a sparse file in
# /dev/shm, or in TMPDIR. With 64 MiB the kernel of Debian 12 fails in a third of its boots
# to start the self-tests of its ciphers, and then has none of them (crypto/api.c:170 in its
# log); with 256 MiB in none of 210. No offloads on its links: what it sends has its
# checksums finished.

# all that the transforms and tunnels need; see uml-init
UML_MODULES=(esp4 xfrm_user ip_gre gcm ghash-generic seqiv ctr cbc authenc hmac echainiv drbg
             jitterentropy_rng sha512_generic)
UML_VICI_PORT=4502

uml_share() { printf '%s/run' "$(customer_dir "$1")"; }
uml_lan()   { printf '10.96.%d.%d' "$1" "$2"; } # CUSTOMER 0 (the guest) or 1 (the hosts)

# customer_swanctl CUSTOMER ARGS...: takes the place of customer.sh's, which knows
# charon on the host only
customer_swanctl() {
    local i=$1 uri
    shift
    if [ "$(fact "uml$i" no)" = yes ]; then
        uri="tcp://$(uml_lan "$i" 0):$UML_VICI_PORT"
    else
        uri="unix://$(customer_dir "$i")/run/vici"
    fi
    in_ns "c$i" swanctl "$@" --uri "$uri"
}

# uml_start CUSTOMER: boots the guest; returns at once, uml_ready waits for it
uml_start() {
    local i=$1 share
    share=$(uml_share "$i")
    command -v linux.uml >/dev/null || die "user-mode-linux is missing: run deploy/install-packages"
    mkdir -p -m 700 "$share"
    set_fact "uml$i" yes
    set_fact "uml$i.next" 0
    uml_net_up "$i"
    uml_charon_conf >"$share/strongswan.conf"
    uml_setup "$i" >"$share/setup"
    spawn "c$i" "$(customer_dir "$i")/console" nsenter --net="$(ns_path "c$i")" -- \
        unshare --pid --fork --kill-child -- \
        linux.uml mem=256M uml_dir="$(customer_dir "$i")" umid=uml con=null con0=null,fd:1 quiet \
        eth0=tuntap,wan0 eth1=tuntap,lan0 \
        root=/dev/root rootfstype=hostfs rootflags=/ ro init="$LAB_D/uml-init" UML_SHARE="$share"
}

# uml_ready CUSTOMER: waits until the guest's charon answers, then loads the
# configuration of customer_config
uml_ready() {
    local i=$1 share
    share=$(uml_share "$i")
    wait_until 20 uml_answered_or_gone "$i" setup || true
    if [ "$(cat "$share/status.setup" 2>/dev/null)" != 0 ] || ! wait_until 10 customer_swanctl "$i" --stats; then
        tail -n 20 "$(customer_dir "$i")/console" "$share/output.setup" "$share/charon.log" >&2 || true
        die "the guest of c$i did not come up (log above)"
    fi
    customer_config "$i"
}

uml_answered() { [ -e "$(uml_share "$1")/status.$2" ]; }
uml_answered_or_gone() { uml_answered "$@" || stopped "c$1"; }

uml_stop() { end_process "c$1" KILL; } # nothing in it is worth a farewell

# uml_run CUSTOMER COMMAND...: runs it inside the guest, one at a time; prints what it
# prints and returns its status
uml_run() {
    local i=$1 n share
    shift
    share=$(uml_share "$i")
    n=$(fact "uml$i.next")
    set_fact "uml$i.next" $((n + 1))
    printf '%q ' "$@" >"$share/command"
    mv "$share/command" "$share/command.$n"
    wait_until 20 uml_answered_or_gone "$i" "$n" || true
    uml_answered "$i" "$n" || die "c$i: the guest does not answer: $*"
    cat "$share/output.$n"
    return "$(cat "$share/status.$n")"
}

# ---------------------------------------------------------------- what the guest is given

# uml_net_up CUSTOMER: from "cI is the router" (net_customer_up) to the picture above
uml_net_up() {
    local i=$1 customer tap
    customer=$(ns "c$i")
    for tap in wan0 lan0; do
        in_ns "c$i" ip tuntap add dev "$tap" mode tap
        ip -n "$customer" link set "$tap" up
    done
    ip -n "$customer" link add br0 type bridge
    ip -n "$customer" link set br0 up
    ip -n "$customer" addr flush dev up0
    ip -n "$customer" link set up0 master br0
    ip -n "$customer" link set wan0 master br0
    ip -n "$customer" addr add "$(uml_lan "$i" 1)/31" dev lan0
    ip -n "$customer" route replace default via "$(uml_lan "$i" 0)" dev lan0 src "$(customer_host "$i")"
}

uml_setup() {
    local i=$1
    cat <<SETUP
modprobe -d /run/modules -a ${UML_MODULES[*]}
# The kernel makes a transform, and tests it, when it is first asked for; what it cannot make is
# seen here and not in the middle of a test.
first_use() {
    ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100 mode tunnel "\$@"
    ip xfrm state flush
}
first_use aead 'rfc4106(gcm(aes))' 0x$(printf '%072d' 0) 128
first_use enc 'cbc(aes)' 0x$(printf '%064d' 0) auth-trunc 'hmac(sha256)' 0x$(printf '%064d' 0) 128
first_use enc ecb\(cipher_null\) '' auth-trunc 'hmac(sha1)' 0x$(printf '%040d' 0) 96
ip link set lo up
ip link set eth0 name wan
ip link set eth1 name lan
ip link set wan up
ip link set lan up
sysctl -q -w net.ipv4.ip_forward=1
ip addr add $(customer_addr "$i")/32 dev wan
ip route add 198.51.100.254/32 dev wan
ip route add default via 198.51.100.254 src $(customer_addr "$i")
ip addr add $(uml_lan "$i" 0)/31 dev lan
ip route add $CUSTOMER_NETS via $(uml_lan "$i" 1)
STRONGSWAN_CONF=/mnt/strongswan.conf setsid /usr/lib/ipsec/charon >/mnt/charon.out 2>&1 </dev/null &
SETUP
}

uml_charon_conf() {
    cat <<CONF
charon {
    load = random nonce openssl kdf hmac kernel-netlink socket-default vici
    install_routes = no
    retransmit_timeout = ${C_RETRANSMIT:-1.0}
    retransmit_base = 1.2
    retransmit_tries = 4
    half_open_timeout = 10
    plugins {
        kernel-netlink {
            roam_events = no
        }
        vici {
            socket = tcp://0.0.0.0:$UML_VICI_PORT
        }
    }
    filelog {
        charon {
            path = /mnt/charon.log
            time_format = %T
            default = ${C_LOG:-1}
            knl = 2
            flush_line = yes
        }
    }
}
CONF
}
