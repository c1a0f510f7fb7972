#!/usr/bin/env bash
# The demo with its nodes in containers (podman and runc): the same table, exit 0.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

test_begin containers 300
for tool in podman runc mmdebstrap; do
    command -v "$tool" >/dev/null || skip "$tool is missing (deploy/install-packages --containers)"
done
output=$("$ROOT/deploy/lab" demo --containers 2>&1) || fail "the demo failed: $output"
say "$output"
equal "rows of nodes" 3 "$(grep -Ec '^n[123] .* ms +[1-9][0-9]* +[1-9][0-9]*$' <<<"$output")"
check "both directions answered in full" \
    grep -q 'customer to inner host 300 of 300, inner host to customer 300 of 300' <<<"$output"
check "no container is left" test -z "$(podman ps --all --format '{{.Names}}' 2>/dev/null | grep "^$LAB-" || true)"
check "nothing of the lab is left" test -z "$(ip netns list | grep "^$LAB-" || true)"
test_end
