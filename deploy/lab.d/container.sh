# shellcheck shell=bash
# Nodes in containers: podman with runc. Sourced by lib.sh.
#
# A container joins the namespace that the lab made for its node, so network, spray,
# HTTP and captures are those of the namespace lab. The node's directory is mounted as
# /etc/anysa. Nothing outside the lab's directory is configured: CONTAINERS_CONF points
# podman at a file of ours.

ANYSA_IMAGE=localhost/anysa-lab

pod() { CONTAINERS_CONF="$STATE/containers.conf" podman "$@"; }

container_name() { printf '%s-n%s' "$LAB" "$1"; }

# containers_up: settings and image; called once before the first node starts
containers_up() {
    local i
    command -v podman >/dev/null || die "podman is missing: run deploy/install-packages --containers"
    cat >"$STATE/containers.conf" <<'CONF'
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
CONF
    for i in $(all_nodes); do pod rm --force --time 0 "$(container_name "$i")" >/dev/null 2>&1 || true; done
    container_image
}

# container_base: prints a Debian 12 base image: ANYSA_BASE, one made earlier, the
# registry's, or one made here from Debian's package archive
container_base() {
    local made=localhost/anysa-base
    if [ -n "${ANYSA_BASE:-}" ]; then printf '%s\n' "$ANYSA_BASE"; return; fi
    if ! pod image exists "$made"; then
        if timeout 30 env CONTAINERS_CONF="$STATE/containers.conf" podman pull -q docker.io/library/debian:12-slim >"$STATE/pull.log" 2>&1; then
            printf 'docker.io/library/debian:12-slim\n'
            return
        fi
        note "no image registry in reach: making a Debian base image (once)"
        mmdebstrap --variant=minbase bookworm "$STATE/base.tar" >"$STATE/base.log" 2>&1 \
            || { tail -n 20 "$STATE/base.log" >&2; die "mmdebstrap failed (log above)"; }
        pod import "$STATE/base.tar" "$made" >"$STATE/base.log" 2>&1 \
            || { tail -n 20 "$STATE/base.log" >&2; die "podman import failed (log above)"; }
        rm -f "$STATE/base.tar"
    fi
    printf '%s\n' "$made"
}

# container_image: the node's image, from the binaries in $BIN. The context holds just
# what the Containerfile copies.
container_image() {
    local context="$STATE/context" base
    base=$(container_base)
    mkdir -p "$context/deploy" "$context/build/release/node"
    cp "$ROOT/deploy/install-packages" "$ROOT/deploy/container-entrypoint" "$context/deploy/"
    cp "$BIN/anysad" "$BIN/anysa" "$context/build/release/node/"
    pod build --network host --pull=never --format docker --build-arg BASE="$base" \
        -t "$ANYSA_IMAGE" -f "$ROOT/deploy/Containerfile" "$context" >"$STATE/build.log" 2>&1 \
        || { tail -n 30 "$STATE/build.log" >&2; die "the image did not build (log above)"; }
    rm -rf "$context"
}

# container_start NODE [NAME=VALUE...]
container_start() {
    local i=$1 pair
    local -a env=()
    shift
    for pair in "$@"; do env+=(--env "$pair"); done
    if pod container exists "$(container_name "$i")"; then
        [ "${#env[@]}" -eq 0 ] || die "a container keeps the environment it was made with"
        pod start "$(container_name "$i")" >/dev/null
        return
    fi
    # shellcheck disable=SC2016
    pod run --detach --name "$(container_name "$i")" --network "ns:$(ns_path "n$i")" \
        --cap-add NET_ADMIN,NET_RAW,IPC_LOCK --security-opt no-new-privileges --device /dev/net/tun --no-healthcheck --pull=never \
        --env ANYSA_ANYCAST="$ANYCAST" "${env[@]}" --volume "$(node_dir "$i"):/etc/anysa" \
        "$ANYSA_IMAGE" sh -c 'exec anysad --config /etc/anysa/node.yaml >>/etc/anysa/anysad.log 2>&1' \
        >/dev/null 2>"$STATE/podman-n$i.log" \
        || { tail -n 10 "$STATE/podman-n$i.log" >&2; die "podman did not start n$i (log above)"; }
}

container_running() {
    [ "$(pod inspect --format '{{.State.Running}}' "$(container_name "$1")" 2>/dev/null)" = true ]
}

container_kill() {
    container_running "$1" || return 0
    pod kill --signal KILL "$(container_name "$1")" >/dev/null
    wait_until 5 container_stopped "$1" || die "container $(container_name "$1") does not die"
}
container_stopped() { ! container_running "$1"; }

container_stop() { pod stop --time 10 "$(container_name "$1")" >/dev/null; }

containers_down() {
    local i
    command -v podman >/dev/null && [ -e "$STATE/containers.conf" ] || return 0
    for i in $(all_nodes); do
        pod rm --force --time 0 "$(container_name "$i")" >/dev/null 2>&1 || true
    done
}
