# shellcheck shell=bash
# What the benchmark scripts share: a lab of their own (tests/lab/common.sh), with
#
#   rtr  the load generator, one link away from both
#   n1   anysad, release build
#   c2   charon as the responder, configured to its advantage
#
# Environment, besides that of the lab:
#   ANYSA_BENCH_BIN   directory with the bench_ programs  (default: ../tests/bench beside ANYSA_BIN)

BENCH_D=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lab/common.sh
. "$BENCH_D/../lab/common.sh"
BENCH_BIN=${ANYSA_BENCH_BIN:-$BIN/../tests/bench}

# bench_begin NAME SECONDS NODES
bench_begin() {
    test_begin "$1" "$2"
    [ -x "$BENCH_BIN/bench_handshakes" ] || die "no bench programs in $BENCH_BIN: build them or set ANYSA_BENCH_BIN"
    bench_lab "$3"
}

# bench_lab NODES: n1 .. nN up and ready, all traffic to n1; no customer runs
bench_lab() {
    local i
    export NODE_DPD=86400 # the load generator answers none
    lab_begin "$1" 2
    net_up
    bench_config
    for i in $(all_nodes); do node_start "$i"; done
    for i in $(all_nodes); do node_wait_ready "$i" 15; done
    for i in $(all_nodes); do [ "$i" = 1 ] || net_withdraw "$i"; done
}

# bench_config: BENCH_TUNNELS tunnels with the IDs of tunnel_login() in gateway.c and one key, as
# a gateway has many customers with few SAs each
# BENCH_ADDRESSES=no: without interface addresses. The kernel keeps a device's addresses in a list,
# and 10,000 of them take it a quarter of a minute.
BENCH_TUNNELS=1000
BENCH_ADDRESSES=yes
bench_config() {
    mkdir -p -m 700 "$STATE/common/psk"
    (umask 077 && printf '1 %s\n' "$(random_hex 32)" >"$STATE/common/cluster.key")
    (umask 077 && printf '%s\n' "$(random_hex 24)" >"$STATE/common/psk/bench")
    awk -v n="$BENCH_TUNNELS" -v addresses="$BENCH_ADDRESSES" -v account="$ACCOUNT" -v anycast="$ANYCAST" 'BEGIN {
        for (i = 1; i <= n; i++)
            printf "  - {id: %032x, account_id: \"%s\", name: b%d, type: ipsec, anycast_endpoint: %s, psk_file: psk/bench%s}\n",
                i, account, i, anycast,
                addresses == "yes" ? sprintf(", interface_address: 10.100.%d.%d/31", int(i / 128), 2 * (i % 128)) : ""
    }' >"$STATE/common/tunnels"
    printf '  - {prefix: %s, tunnel: %032x}\n' "$(customer_net 1)" 1 >"$STATE/common/routes"
    config_end
}

# bench_charon_start: in c2, for the same IDs and key as n1.
# Nothing refuses or delays, the SA table is hashed, all SAs share one policy and route, and only
# the lines "IKE_SA established", "CHILD_SA established" are logged, as anysad does.
bench_charon_start() {
    local dir
    dir=$(customer_dir 2)
    mkdir -p -m 700 "$dir/run"
    ip -n "$(ns c2)" addr add "$INNER_HOST/32" dev lo # kernel-libipsec's route wants a source
    bench_charon_conf >"$dir/run/strongswan.conf"
    # shellcheck disable=SC2016
    spawn c2 "$dir/charon.out" nsenter --net="$(ns_path c2)" -- \
        unshare --mount --propagation private -- \
        sh -c 'mount --bind "$1" /run && exec env STRONGSWAN_CONF=/run/strongswan.conf /usr/lib/ipsec/charon' \
        charon "$dir/run"
    wait_until 10 customer_swanctl 2 --stats || die "charon did not start: see $dir/charon.out"
    (umask 077 && bench_swanctl_conf >"$dir/swanctl.conf")
    customer_swanctl 2 --load-all --clear --noprompt --file "$dir/swanctl.conf" >"$dir/load.log" 2>&1 \
        || { cat "$dir/load.log" >&2; die "charon refused its configuration"; }
}

bench_charon_conf() {
    cat <<CONF
charon {
    load = random nonce openssl kdf hmac kernel-libipsec kernel-netlink socket-default vici
    dos_protection = no
    init_limit_half_open = 0
    init_limit_job_load = 0
    half_open_timeout = 30
    ikesa_table_size = 4096
    ikesa_table_segments = 16
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
            default = 0
            flush_line = no
        }
    }
}
CONF
}

bench_swanctl_conf() {
    cat <<CONF
connections {
    clients {
        version = 2
        local_addrs = $(customer_addr 2)
        proposals = aes256gcm16-prfsha256-modp2048
        mobike = no
        rekey_time = 0
        over_time = 24h
        dpd_delay = 0
        unique = never
        local {
            auth = psk
            id = $(customer_addr 2)
        }
        remote {
            auth = psk
            id = fqdn:*.$ACCOUNT.$ID_DOMAIN
        }
        children {
            net {
                local_ts = $INNER_NET
                remote_ts = $(customer_net 1)
                esp_proposals = aes256gcm16
                rekey_time = 0
                life_time = 24h
                replay_window = 0
                start_action = none
            }
        }
    }
}
secrets {
    ike-clients {
        secret = "$(cat "$STATE/common/psk/bench")"
    }
}
CONF
}

# bench_run PROGRAM ARGUMENTS...: in rtr, logging in as one tunnel after the other
bench_run() {
    local program=$1
    shift
    in_ns rtr "$BENCH_BIN/$program" --domain "$ACCOUNT.$ID_DOMAIN" --tunnels "$BENCH_TUNNELS" \
        --psk-file "$STATE/common/psk/bench" --tsi "$(customer_net 1)" --tsr "$INNER_NET" "$@"
}

# gateway_node NAME, gateway_charon: arguments for the programs
gateway_node()   { printf '%s,%s:500,%s' "$1" "$ANYCAST" "$(pid_of n1)"; }
gateway_charon() { printf 'charon,%s:500,%s' "$(customer_addr 2)" "$(pid_of c2)"; }

# Thousands of SAs are no help when something fails; the ends of the logs are.
test_show_logs() {
    local log
    [ "$LAB_OURS" = yes ] || return 0
    for log in "$STATE"/n*/anysad.log "$STATE"/c2/charon.out "$STATE"/c2/run/charon.log; do
        [ -e "$log" ] || continue
        echo "---- end of ${log#"$STATE"/}" >&2
        tail -n 10 "$log" >&2
    done
}
