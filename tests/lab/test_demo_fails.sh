#!/usr/bin/env bash
# The demo can fail: with a test build whose node 2 installs no SA it exits non-zero,
# says which node, and cleans up.
# shellcheck source=tests/lab/common.sh
. "$(dirname "$0")/common.sh"

test_begin demo_fails 90
if ! grep -aq ANYSA_TEST_NO_INSTALL "$BIN/anysad"; then
    BIN=$ROOT/build/dev/node
    grep -aq ANYSA_TEST_NO_INSTALL "$BIN/anysad" 2>/dev/null \
        || skip "no anysad built with -DANYSA_TEST_HOOKS=ON in ANYSA_BIN or build/dev/node"
fi
code=0
output=$(ANYSA_BIN=$BIN "$ROOT/deploy/lab" demo --no-install 2 2>&1) || code=$?
say "$output"
equal "exit code" 1 "$code"
check "node 2 is named" grep -q 'FAILED: n2 does not hold the SA' <<<"$output"
check "the other nodes are not" test -z "$(grep -E 'FAILED: n[13] does not hold' <<<"$output")"
check "nothing of the lab is left" test -z "$(ip netns list | grep "^$LAB-" || true)"
check "no state is left" test ! -e "$STATE"
test_end
