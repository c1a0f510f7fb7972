#!/usr/bin/env bash
# The README's demo as a user runs it: exit 0, and a table with every node in it.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

test_begin demo 60
output=$("$ROOT/deploy/lab" demo 2>&1) || fail "the demo failed: $output"
say "$output"
equal "rows of nodes" 3 "$(grep -Ec '^n[123] .* ms +[1-9][0-9]* +[1-9][0-9]*$' <<<"$output")"
equal "nodes that negotiated" 1 "$(grep -Ec '^n[123] +negotiated ' <<<"$output")"
check "both directions answered in full" \
    grep -q 'customer to inner host 300 of 300, inner host to customer 300 of 300' <<<"$output"
check "nothing of the lab is left" test -z "$(ip netns list | grep "^$LAB-" || true)"
check "no state is left" test ! -e "$STATE"
test_end
