#!/bin/sh
# docker/setup.sh BASE POSTGRES [cpu|cuda]: the settings (docker/.env) and the database's password that compose.yaml reads. Run again, it
# keeps the password, since the database was made with it.
set -eu
cd "$(dirname "$0")"
[ $# -ge 2 ] || { echo "docker/setup.sh python:3.11-slim@sha256:DIGEST postgres:17@sha256:DIGEST [cpu|cuda]" >&2; exit 2; }
case ${3:-cpu} in cpu | cuda) ;; *) echo "$3 is neither cpu nor cuda" >&2; exit 2 ;; esac
sed -e "s|^BASE=.*|BASE=$1|" -e "s|^POSTGRES_IMAGE=.*|POSTGRES_IMAGE=$2|" -e "s|^TORCH=.*|TORCH=${3:-cpu}|" .env.example > .env
# A container's user 1000 must read the file, whoever owns it here; the folder keeps others of this machine out.
(umask 077 && mkdir -p secrets)
if [ ! -s secrets/postgres_password ]; then
    (umask 077 && head -c 24 /dev/urandom | base64 | tr -d '\n' > secrets/new)
    chmod 444 secrets/new
    mv secrets/new secrets/postgres_password
fi
echo "docker/.env and docker/secrets/postgres_password are there"
