#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the gateways that the bench measures against, each in its own folder of one cache.
#
#   ./install_peers.sh                      the short list (nginx vllm-router)
#   ./install_peers.sh haproxy sglang-router litellm portkey      only those named
#
# BEFFROI_BENCH_CACHE chooses the cache (default ~/.cache/beffroi-bench), PYTHON the interpreter of the virtual
# environments: prefer a distribution's build (profile-guided); a plain `./configure && make` one costs 10-45 % more CPU.
# Already installed peers are left alone: delete their folder to reinstall. A peer that fails to
# install does not stop the others; the bench skips it with a line that says so.
set -u
CACHE=${BEFFROI_BENCH_CACHE:-$HOME/.cache/beffroi-bench}
PYTHON=${PYTHON:-python3}
mkdir -p "$CACHE"

say() { printf '%-14s %s\n' "$1" "$2"; }

apt_peer() {  # name package
    if command -v "$1" >/dev/null 2>&1; then say "$1" "already installed"; return 0; fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2" >"$CACHE/$1.log" 2>&1
}

venv_peer() {  # name requirement...
    name=$1; shift
    [ -e "$CACHE/$name/.ok" ] && { say "$name" "already installed"; return 0; }
    rm -rf "${CACHE:?}/$name"
    "$PYTHON" -m venv "$CACHE/$name" >"$CACHE/$name.log" 2>&1 &&
        "$CACHE/$name/bin/pip" install -q "$@" >>"$CACHE/$name.log" 2>&1 &&
        touch "$CACHE/$name/.ok"
}

npm_peer() {  # name package pin-name pin-version: the pin holds for what the package itself depends on
    name=$1
    [ -e "$CACHE/$name/.ok" ] && { say "$name" "already installed"; return 0; }
    rm -rf "${CACHE:?}/$name"; mkdir -p "$CACHE/$name"
    printf '{"private":true,"overrides":{"%s":"%s"}}\n' "$3" "$4" >"$CACHE/$name/package.json"
    (cd "$CACHE/$name" && npm install --no-audit --no-fund "$2") >"$CACHE/$name.log" 2>&1 && touch "$CACHE/$name/.ok"
}

install() {
    case $1 in
        nginx)         apt_peer nginx nginx-light ;;
        haproxy)       apt_peer haproxy haproxy ;;
        vllm-router)   venv_peer vllm-router vllm-router ;;
        sglang-router) venv_peer sglang-router sglang-router ;;
        litellm)       venv_peer litellm 'litellm[proxy]' ;;
        # @hono/node-server above 1.14.2 breaks the published build of this gateway at start.
        portkey)       npm_peer portkey @portkey-ai/gateway @hono/node-server 1.14.2 ;;
        *)             say "$1" "unknown peer"; return 1 ;;
    esac
}

[ $# -gt 0 ] || set -- nginx vllm-router
status=0
for peer in "$@"; do
    if install "$peer"; then say "$peer" "ready"; else say "$peer" "NOT installed, see $CACHE/$peer.log"; status=1; fi
done
exit $status
