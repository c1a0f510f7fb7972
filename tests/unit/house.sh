#!/usr/bin/env bash
# The dependency rule of the house: proto <- {ike, sync, dataplane} <- node.
# The three siblings never include each other, proto includes none of them, and
# each outside library shows its headers in one home only.
#
#   tests/unit/house.sh [ROOT]    exits 1 and names every offending line
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"
bad=0

# deny ROOM PATTERN WHY: no file of ROOM may include what PATTERN matches.
deny() {
    local hits
    hits=$(grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$2" --include='*.[ch]' "$1" || true)
    if [ -n "$hits" ]; then
        printf '%s\n  %s\n' "$3" "$hits" >&2
        bad=1
    fi
}

# only HEADER FILE...: no file but these may include HEADER.
only() {
    local header=$1 file hits
    shift
    hits=$(grep -rlE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<$header" --include='*.[ch]' \
        proto ike sync dataplane node || true)
    for file in $hits; do
        case " $* " in
            *" $file "*) ;;
            *) case " $* " in
                   *" ${file%%/*}/ "*) ;;
                   *) printf '<%s> belongs to %s, not to %s\n' "$header" "$*" "$file" >&2; bad=1 ;;
               esac ;;
        esac
    done
}

deny proto     '(ike|sync|dataplane|node)/' 'proto is the ground floor and includes no other room:'
deny ike       '(sync|dataplane|node)/'     'ike includes proto only:'
deny sync      '(ike|dataplane|node)/'      'sync includes proto only:'
deny dataplane '(ike|sync|node)/'           'dataplane includes proto only:'

only 'openssl/'   proto/
only 'protobuf-c' proto/
only 'nng/'       sync/transport_nng.c sync/transport_nng.h sync/transport_req.c
only 'sqlite3'    sync/store_db.c sync/store_vfs.c
only 'urcu'       dataplane/
only 'uv\.h'      node/
only 'microhttpd' node/
only 'jansson'    node/
only 'cyaml'      node/
only 'yaml\.h'    node/
only 'curl/'      node/

exit "$bad"
