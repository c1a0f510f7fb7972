#!/usr/bin/env bash
# HTTP over TLS with a token, off loopback: who has no token, no trust in the certificate or an
# old TLS gets nothing. What could not be safe is refused before the start, by file and line.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

URL=https://10.99.0.1:8443

# checked EXPECTED: anysad --check says so, and fails
checked() {
    local said
    if said=$("$BIN/anysad" --config "$dir/node.yaml" --check 2>&1); then fail "taken: expected '$1'"; fi
    check "'$said' does not say '$1'" grep -qF "$1" <<<"$said"
}

# http_is LINE: rewrites the node's http section
http_is() { sed -i "s|^http:.*|http:      $1|" "$dir/node.yaml"; }

certificate() { # NAME: a certificate of its own for 10.99.0.1
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
        -addext "subjectAltName=IP:10.99.0.1" -keyout "$dir/$1.key" -out "$dir/$1.crt" 2>/dev/null
}

cli() { in_ns n1 "$BIN/anysa" --url "$URL" "$@"; }
answers() { in_ns n1 curl -sf --max-time 2 --cacert "$dir/tls.crt" "$URL/healthz"; }
http_status() { in_ns n1 curl -s -o "$STATE/body" -w '%{http_code}' --max-time 3 --cacert "$dir/tls.crt" "$@"; }

test_begin https 60
lab_begin 1 0
set_fact containers no
net_up
config_begin
printf '  []\n' >"$STATE/common/tunnels"
printf '  []\n' >"$STATE/common/routes"
config_end
dir=$(node_dir 1)
certificate tls
certificate other
(umask 077 && random_hex 24 >"$dir/api.token" && random_hex 24 >"$STATE/wrong.token")
safe='{listen: "10.99.0.1:8443", token_file: api.token, tls_cert_file: tls.crt, tls_key_file: tls.key}'

http_is '{listen: "10.99.0.1:8443"}'
checked 'node.yaml:7:21: 10.99.0.1:8443 is not a loopback address and there is no token'
http_is '{tls_cert_file: tls.crt}'
checked 'a certificate without its key; set http.tls_key_file as well'
http_is '{tls_cert_file: tls.crt, tls_key_file: other.key}'
checked 'node.yaml:7:51: the key in other.key is not that of the certificate in tls.crt'
http_is '{tls_cert_file: tls.key, tls_key_file: tls.key}'
checked 'holds no certificate'
http_is '{tls_cert_file: tls.crt, tls_key_file: tls.crt}'
chmod 600 "$dir/tls.crt"
checked 'holds no private key'
http_is "$safe"
chmod 644 "$dir/tls.key"
checked 'may be read by others (mode 0644); chmod 600'
chmod 600 "$dir/tls.key"
chmod 640 "$dir/api.token"
checked 'may be read by others (mode 0640); chmod 600'
chmod 600 "$dir/api.token"
check "the safe one is taken" "$BIN/anysad" --config "$dir/node.yaml" --check

node_start 1
eventually "https answers" 10 answers
equal "without a token" 401 "$(http_status "$URL/v1/cluster")"
equal "with a wrong one" 401 "$(http_status -H "Authorization: Bearer $(cat "$STATE/wrong.token")" "$URL/v1/cluster")"
equal "with the token" 200 "$(http_status -H "Authorization: Bearer $(cat "$dir/api.token")" "$URL/v1/cluster")"
equal "readiness needs none" 200 "$(http_status "$URL/readyz")"
equal "TLS 1.3" 200 "$(http_status --tlsv1.3 "$URL/readyz")"
if http_status --tls-max 1.1 --ciphers 'DEFAULT:@SECLEVEL=0' "$URL/readyz" >/dev/null; then fail "TLS 1.1 is taken"; fi
if http_status "http://10.99.0.1:8443/readyz" >/dev/null && [ -s "$STATE/body" ]; then fail "plain HTTP is answered"; fi

check "anysa status" cli --ca "$dir/tls.crt" --token-file "$dir/api.token" status >/dev/null
if said=$(cli --ca "$dir/other.crt" --token-file "$dir/api.token" status 2>&1); then fail "another CA is trusted"; fi
check "the remedy is named: $said" grep -q -- '--ca' <<<"$said"
if cli --token-file "$dir/api.token" status >/dev/null 2>&1; then fail "a certificate of nobody's is trusted"; fi
if cli --ca "$dir/tls.crt" status >/dev/null 2>&1; then fail "anysa without a token gets an answer"; fi

# Keep-alive, many at once, and a client that stops in the middle of the handshake.
in_ns n1 bash -c 'exec 3<>/dev/tcp/10.99.0.1/8443; printf "\x16\x03\x01" >&3; sleep 3' &
# shellcheck disable=SC2046
in_ns n1 curl -s -o /dev/null --max-time 10 --cacert "$dir/tls.crt" --parallel --parallel-max 20 -w '%{http_code}\n' \
    $(for _ in $(seq 60); do printf '%s -o /dev/null ' "$URL/healthz"; done) >"$STATE/codes"
equal "answers to 60 requests at once" 60 "$(grep -c 200 "$STATE/codes")"

# Neither token nor key is shown or logged.
in_ns n1 curl -s --cacert "$dir/tls.crt" -H "Authorization: Bearer $(cat "$dir/api.token")" "$URL/metrics" >"$STATE/metrics"
key=$(sed -n 2p "$dir/tls.key")
for secret in "$(cat "$dir/api.token")" "$key"; do
    if grep -qF -- "$secret" "$dir/anysad.log" "$STATE/metrics" "$STATE/body"; then fail "a secret is shown"; fi
done
node_stop 1
test_end
