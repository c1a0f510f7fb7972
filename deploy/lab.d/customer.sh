# shellcheck shell=bash
# The lab's customers: strongSwan with its user-space ESP (kernel-libipsec), which
# needs nothing of the kernel but a TUN device. Sourced by lib.sh.
#
# Each customer has a directory $STATE/cI: swanctl.conf, and run/, which charon
# sees as /run: strongswan.conf, charon.log, vici. What a test may vary, with the
# defaults:
#
#   C_IKE        aes256gcm16-prfsha256-modp2048   IKE proposals
#   C_ESP        aes256gcm16                      ESP proposals
#   C_ID_TYPE    fqdn          fqdn, rfc822, keyid or ipv4: the reference's formats
#   C_ID         (from type)   the whole ID instead, in strongSwan's notation
#   C_REMOTE_ID  192.0.2.1     IDr expected
#   C_PORT       500           where IKE starts, here and there: 500 or 4500
#   C_NAT        ""            at net_up: numbers of the customers behind a NAT box (nat.sh)
#   C_PSK        (the tunnel's)
#   C_LOCAL_TS, C_REMOTE_TS    the customer's prefix; 0.0.0.0/0
#   C_REKEY      0             rekey the Child SA by itself after so many seconds
#   C_DPD        0             DPD delay in seconds
#   C_REPLAY     off           off: no anti-replay, as gateways of this kind require;
#                              on: kernel-libipsec's own window of 128 packets
#   C_LOG        1             charon's log level; 4 logs the keys themselves
#   C_FRAGMENT   1280          largest IP packet of an IKE message (RFC 7383)
#   C_RETRANSMIT 1.0           seconds until the first retransmission

customer_addr() { printf '198.51.100.%d' "$((10 + $1))"; }
customer_net()  { printf '203.0.113.%d/28' "$((16 * $1))"; }
customer_host() { printf '203.0.113.%d' "$((16 * $1 + 1))"; }
customer_dir()  { printf '%s/c%s' "$STATE" "$1"; }
customer_log()  { cat "$(customer_dir "$1")/run/charon.log"; }

# customer_id CUSTOMER TYPE: the IKE ID in strongSwan's notation
customer_id() {
    local id
    id=$(tunnel_id "c$1")
    case "$2" in
        fqdn)   printf 'fqdn:%s.%s.%s' "$id" "$ACCOUNT" "$ID_DOMAIN" ;;
        rfc822) printf 'rfc822:ipsec@%s.%s.%s' "$id" "$ACCOUNT" "$ID_DOMAIN" ;;
        keyid)  printf 'keyid:%s_%s' "$ACCOUNT" "$id" ;;
        ipv4)   customer_addr "$1" ;;
        *) die "no ID type '$2'" ;;
    esac
}

# ---------------------------------------------------------------- charon

# customer_start CUSTOMER: charon, with the configuration of customer_config loaded
customer_start() {
    local i=$1 dir preload=""
    dir=$(customer_dir "$i")
    mkdir -p -m 700 "$dir/run"
    rm -f "$dir/run/charon.pid" "$dir/run/vici" # of an earlier, killed one
    customer_charon_conf >"$dir/run/strongswan.conf"
    [ "${C_REPLAY:-off}" = on ] || preload=$(no_replay_library)
    # charon's pid file has a fixed place, so each charon has a /run of its own.
    # shellcheck disable=SC2016
    spawn "c$i" "$dir/charon.out" nsenter --net="$(ns_path "c$i")" -- \
        unshare --mount --propagation private -- \
        sh -c 'mount --bind "$1" /run &&
               exec env STRONGSWAN_CONF=/run/strongswan.conf ${2:+LD_PRELOAD="$2"} /usr/lib/ipsec/charon' \
        charon "$dir/run" "${preload:+/run/no_replay.so}"
    wait_until 10 customer_swanctl "$i" --stats || {
        tail -n 20 "$dir/charon.out" "$dir/run/charon.log" >&2 || true
        die "charon of c$i did not start (log above)"
    }
    customer_config "$i"
}

# no_replay_library: compiles no_replay.c once for the lab; prints its path
no_replay_library() {
    local i
    if [ ! -e "$STATE/no_replay.so" ]; then
        cc -O2 -Wall -Wextra -shared -fPIC -o "$STATE/no_replay.so" "$LAB_D/no_replay.c" -ldl \
            || die "the customer's anti-replay switch did not compile (is cc installed?)"
    fi
    for i in $(seq 1 "$(customer_count)"); do
        mkdir -p -m 700 "$(customer_dir "$i")/run"
        [ -e "$(customer_dir "$i")/run/no_replay.so" ] || cp "$STATE/no_replay.so" "$(customer_dir "$i")/run/"
    done
    printf '%s\n' "$STATE/no_replay.so"
}

customer_charon_conf() {
    cat <<CONF
charon {
    # nothing that listens, forwards or answers by itself (forecast, farp, dhcp ...)
    load = random nonce openssl kdf hmac kernel-libipsec kernel-netlink socket-default vici
    install_routes = yes
    retransmit_timeout = ${C_RETRANSMIT:-1.0}
    retransmit_base = 1.2
    retransmit_tries = 4
    half_open_timeout = 10
    fragment_size = ${C_FRAGMENT:-1280}
    plugins {
        kernel-netlink {
            roam_events = no
        }
        vici {
            socket = unix:///run/vici
        }
    }
    filelog {
        charon {
            path = /run/charon.log
            time_format = %T
            default = ${C_LOG:-1}
            knl = 2
            flush_line = yes
        }
    }
}
CONF
}

# customer_config CUSTOMER: writes swanctl.conf from the C_ variables and loads it
customer_config() {
    local i=$1 dir id psk
    dir=$(customer_dir "$i")
    id=${C_ID:-$(customer_id "$i" "${C_ID_TYPE:-fqdn}")}
    psk=${C_PSK:-$(cat "$STATE/common/psk/c$i")}
    (umask 077 && cat >"$dir/swanctl.conf") <<CONF
connections {
    gw {
        version = 2
        local_addrs = $(customer_local "$i")
        remote_addrs = $ANYCAST
        local_port = ${C_PORT:-500}
        remote_port = ${C_PORT:-500}
        proposals = ${C_IKE:-aes256gcm16-prfsha256-modp2048}
        mobike = no
        rekey_time = 0
        over_time = 1h
        dpd_delay = ${C_DPD:-0}
        keyingtries = 1
        unique = no
        local {
            auth = psk
            id = $id
        }
        remote {
            auth = psk
            id = ${C_REMOTE_ID:-$ANYCAST}
        }
        children {
            net {
                local_ts = ${C_LOCAL_TS:-$(customer_net "$i")}
                remote_ts = ${C_REMOTE_TS:-0.0.0.0/0}
                esp_proposals = ${C_ESP:-aes256gcm16}
                rekey_time = ${C_REKEY:-0}
                rand_time = 0
                life_time = 8h
                replay_window = 0
                start_action = none
                close_action = none
                dpd_action = clear
            }
        }
    }
}
secrets {
    ike-gw {
        secret = "$psk"
    }
}
CONF
    customer_swanctl "$i" --load-all --clear --noprompt --file "$dir/swanctl.conf" >"$dir/load.log" 2>&1 \
        || { cat "$dir/load.log" >&2; die "c$i: strongSwan refused its configuration"; }
}

# customer_swanctl CUSTOMER ARGS...: vici is a socket in the file system, so no namespace is needed
customer_swanctl() {
    local i=$1
    shift
    swanctl "$@" --uri "unix://$(customer_dir "$i")/run/vici"
}

# ---------------------------------------------------------------- exchanges

# customer_up CUSTOMER: IKE and the Child SA; 1 if refused
customer_up() { customer_swanctl "$1" --initiate --child net --timeout "${2:-10}" >>"$(customer_dir "$1")/swanctl.out" 2>&1; }

customer_down() { customer_swanctl "$1" --terminate --ike gw --timeout 5 >>"$(customer_dir "$1")/swanctl.out" 2>&1; }

customer_rekey() { customer_swanctl "$1" --rekey --child net >>"$(customer_dir "$1")/swanctl.out" 2>&1; }

customer_stop() { end_process "c$1" TERM 5; }

# customer_children CUSTOMER: number of installed Child SAs
customer_children() { customer_swanctl "$1" --list-sas | grep -c 'INSTALLED' || true; }

# ping(8) leaves two round trips after the last request, which is milliseconds here: an answer
# that a busy machine delays would count as lost. patient_ping.py waits for it.
# customer_ping CUSTOMER COUNT INTERVAL: pings the inner host; prints "sent received"
customer_ping() {
    in_ns "c$1" "$PYTHON" "$LAB_D/patient_ping.py" --source "$(customer_host "$1")" --count "$2" --interval "$3" "$INNER_HOST"
}

# inner_ping CUSTOMER COUNT INTERVAL: the inner host pings the customer's
inner_ping() {
    in_ns inner "$PYTHON" "$LAB_D/patient_ping.py" --source "$INNER_HOST" --count "$2" --interval "$3" "$(customer_host "$1")"
}
