#!/usr/bin/env bash
# What tests start for real, from Debian's packages: a browser and Postgres; with `cluster`, also hosts, Slurm, sshd and containers.
# Installs what is absent, where it may (root and apt-get); starts no service.
set -euo pipefail
absent=()
need() { [ -n "$(command -v "$1" || compgen -G "$1" || true)" ] || absent+=("${@:2}"); }
PATH=$PATH:/usr/sbin:/sbin
need chromium chromium
need '/usr/lib/postgresql/*/bin/initdb' postgresql
if [ "${1:-}" = cluster ]; then
  need ip iproute2
  need setpriv util-linux
  need sshd openssh-server openssh-client
  need slurmctld slurmctld slurmd slurm-client munge
  need dockerd docker.io
  need docker-compose docker-compose
  need iptables iptables
  need debootstrap debootstrap
  need ps procps
fi
[ ${#absent[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "tests/needs.sh: ${absent[*]} are absent, and only root can install them (apt-get); tests that need them say so" >&2
  exit 0
fi
# a package's own service would run on beside the tests'
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' > $policy
  chmod +x $policy
fi
for attempt in 1 2 3; do
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${absent[@]}" >/dev/null && exit 0
  sleep $((10 * attempt))
done
exit 1
