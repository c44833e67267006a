#!/bin/sh
# MLflow on Postgres. The password goes by libpq's own file: arguments are seen by every process, and a URL would break at @ / : %
set -eu
secret=${POSTGRES_PASSWORD_FILE:-/run/secrets/postgres_password}
if [ ! -r "$secret" ]; then
    echo "$secret cannot be read by user $(id -u); make it with docker/setup.sh" >&2
    exit 4
fi
umask 077 # libpq refuses a file that others may read
password=$(sed 's/[\\:]/\\&/g' "$secret") # by itself, so that a failure ends the script
printf '*:*:*:*:%s\n' "$password" > /tmp/pgpass
export PGPASSFILE=/tmp/pgpass
exec mlflow server --host 0.0.0.0 --port 5000 --workers 1 --x-frame-options DENY \
    --allowed-hosts "${MLFLOW_HOSTS:-mlflow,mlflow:5000,localhost:5000,127.0.0.1:5000}" \
    --backend-store-uri "${MLFLOW_STORE:-postgresql+psycopg2://mlflow@postgres/mlflow}" --artifacts-destination /artifacts "$@"
