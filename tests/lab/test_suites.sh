#!/usr/bin/env bash
# Every parameter of the reference against strongSwan, and every refusal.
#
#   test_suites.sh          each IKE suite, Child suite, ID type and port at least once
#   test_suites.sh --full   the full product of them
#
# PFS is not walked here: the Child SA of IKE_AUTH never has it.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

# strongSwan's notation; anysa shows IKE suites in the same words
IKE_SUITES=()
for enc in aes128gcm16 aes256gcm16 aes256-sha256; do
    for prf in prfsha256 prfsha384 prfsha512; do
        for group in modp2048 modp1536; do IKE_SUITES+=("$enc-$prf-$group"); done
    done
done
CHILD_SUITES=(aes128gcm16 aes256gcm16 aes128-sha256 aes256-sha256 aes128-sha1 aes256-sha1)
NULL_SUITES=(null-sha256 null-sha1)
ID_TYPES=(fqdn rfc822 keyid ipv4)
PORTS=(500 4500)

# c1 has an ordinary tunnel; c2 opts in to NULL; c3 may select only part of its prefix
NULL_CUSTOMER=2
NARROW_CUSTOMER=3

# works CUSTOMER DESCRIPTION: negotiate, look, ping both ways, close, nothing left
works() {
    local c=$1 what=$2 suite
    customer_config "$c"
    check "$what: tunnel" customer_up "$c"
    equal "$what: IKE SAs" 1 "$(ike_count 1)"
    suite=$(node_first 1 /v1/ike-sas | jq -r .suite)
    equal "$what: IKE suite shown" "${EXPECT_IKE:-${C_IKE:-aes256gcm16-prfsha256-modp2048}}" "$suite"
    suite=$(node_first 1 /v1/child-sas | jq -r .suite)
    equal "$what: Child suite shown" "${EXPECT_ESP:-${C_ESP:-aes256gcm16}}" "$suite"
    equal "$what: pings" "3 3" "$(customer_ping "$c" 3 0.01)"
    equal "$what: pings towards the customer" "3 3" "$(inner_ping "$c" 3 0.01)"
    check "$what: close" customer_down "$c"
    eventually "$what: nothing left" 3 no_sas 1
    walked=$((walked + 1))
}

# refused CUSTOMER DESCRIPTION NOTIFY LOG-PATTERN: strongSwan sees the notify, anysad
# logs exactly one line about it, no state is left
refused() {
    local c=$1 what=$2 notify=$3 pattern=$4 seen mark lines
    customer_config "$c"
    seen=$(customer_log "$c" | wc -l)
    mark=$(log_mark 1)
    if customer_up "$c"; then fail "$what: strongSwan got a tunnel"; fi
    check "$what: strongSwan receives $notify" grep -q "received $notify notify" \
        <(customer_log "$c" | tail -n "+$((seen + 1))")
    customer_down "$c" || true # an IKE SA without child stays up otherwise
    eventually "$what: nothing left" 3 no_sas 1
    lines=$(log_since 1 "$mark" | grep -Eic "$pattern" || true)
    [ "$lines" -eq 1 ] || log_since 1 "$mark" >&2
    equal "$what: log lines that match /$pattern/" 1 "$lines"
    walked=$((walked + 1))
}

walk_each_once() {
    local i
    for i in "${!IKE_SUITES[@]}"; do
        C_IKE=${IKE_SUITES[i]} C_ESP=${CHILD_SUITES[i % 6]} \
            C_ID_TYPE=${ID_TYPES[(i + i / 4) % 4]} C_PORT=${PORTS[i / 3 % 2]} \
            works 1 "${IKE_SUITES[i]} / ${CHILD_SUITES[i % 6]} / ${ID_TYPES[(i + i / 4) % 4]} / ${PORTS[i / 3 % 2]}"
    done
    for i in "${!NULL_SUITES[@]}"; do
        C_ESP=${NULL_SUITES[i]} works "$NULL_CUSTOMER" "${NULL_SUITES[i]}, opted in"
    done
}

walk_product() {
    local ike esp id port
    for ike in "${IKE_SUITES[@]}"; do
        for id in "${ID_TYPES[@]}"; do
            for port in "${PORTS[@]}"; do
                for esp in "${CHILD_SUITES[@]}"; do
                    C_IKE=$ike C_ESP=$esp C_ID_TYPE=$id C_PORT=$port works 1 "$ike / $esp / $id / $port"
                done
                for esp in "${NULL_SUITES[@]}"; do
                    C_IKE=$ike C_ESP=$esp C_ID_TYPE=$id C_PORT=$port works "$NULL_CUSTOMER" "$ike / $esp / $id / $port"
                done
            done
        done
    done
}

walk_choices() {
    C_IKE="aes256-sha256-prfsha512-modp1536,aes256gcm16-prfsha256-modp2048" \
        EXPECT_IKE=aes256-sha256-prfsha512-modp1536 works 1 "two IKE proposals: the initiator's order decides"
    C_IKE="aes192-sha1-modp3072,aes128gcm16-prfsha384-modp2048" EXPECT_IKE=aes128gcm16-prfsha384-modp2048 \
        works 1 "an unknown IKE proposal first, its group in KE: INVALID_KE_PAYLOAD, then fine"
    C_IKE="aes256gcm16-prfsha256-modp3072-modp1536" EXPECT_IKE=aes256gcm16-prfsha256-modp1536 \
        works 1 "an unknown group in KE: INVALID_KE_PAYLOAD, then fine"
    C_ESP="aes192-sha256,aes128-sha1,aes256gcm16" EXPECT_ESP=aes128-sha1 \
        works 1 "three Child proposals: the first that is known"
    C_LOCAL_TS=203.0.113.0/24 works "$NARROW_CUSTOMER" "a too wide selector is narrowed"
}

walk_refusals() {
    C_PSK=not-the-right-one refused 1 "wrong PSK" AUTHENTICATION_FAILED 'psk|authentication'
    C_ID="fqdn:$(tunnel_id nobody).$ACCOUNT.$ID_DOMAIN" \
        refused 1 "unknown ID" AUTHENTICATION_FAILED 'unknown|no tunnel|authentication'
    C_ID="keyid:${ACCOUNT}_$(tunnel_id nobody)" \
        refused 1 "unknown key ID" AUTHENTICATION_FAILED 'unknown|no tunnel|authentication'
    C_ID=198.51.100.99 refused 1 "unknown IPv4 ID" AUTHENTICATION_FAILED 'unknown|no tunnel|authentication'
    C_IKE=aes128-sha1-modp2048 refused 1 "unsupported IKE proposal" NO_PROPOSAL_CHOSEN 'proposal'
    C_ESP=aes192-sha256 refused 1 "unsupported Child proposal" NO_PROPOSAL_CHOSEN 'proposal'
    C_ESP=null-sha256 refused 1 "NULL without opting in" NO_PROPOSAL_CHOSEN 'proposal|null'
    C_LOCAL_TS=198.18.0.0/15 refused "$NARROW_CUSTOMER" "selectors outside the tunnel's" TS_UNACCEPTABLE 'selector|ts_unacceptable'
    # and after all this an honest router gets in
    works 1 "after the refusals"
}

full=no
case "${1:-}" in
    --full) full=yes; shift ;;
    "") ;;
    *) echo "usage: test_suites.sh [--full]" >&2; exit 2 ;;
esac

if [ "$full" = yes ]; then test_begin "suites, full product" 1800; else test_begin suites 120; fi
walked=0
lab_begin 1 3
net_up
mkdir -p -m 700 "$STATE/common/psk"
set_fact customers 1 # c2 and c3 have tunnels of their own kind
config_begin
set_fact customers 3
config_ipsec_tunnel c2 "$(customer_addr 2)" "$(customer_net 2)" 2 "allow_null_cipher: true"
config_ipsec_tunnel c3 "$(customer_addr 3)" "$(customer_net 3)" 3 "remote_ts: [$(customer_net 3)]"
config_end
lab_start
if [ "$full" = yes ]; then walk_product; else walk_each_once; fi
walk_choices
walk_refusals
say "$walked negotiations as expected"
test_end
