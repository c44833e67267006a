#!/usr/bin/env bash
# cluster/hosts.sh start HEAD [NODE...]    a Ray cluster of hosts that ssh reaches, from the checkout; a node may be added later: join HEAD NODE...
# cluster/hosts.sh stop HOST...            ends every Ray of this user there
# Every host needs this checkout and its .venv (or the environment that is active here) at the same path. RAY_PORT: the head's, 6379.
# RAY_START: more arguments of `ray start`. RAY_TRIES: how often it is started, 6. SSH: another ssh, or ssh with options.
set -euo pipefail
verb=${1:-} venv=${VIRTUAL_ENV:-$PWD/.venv} port=${RAY_PORT:-6379} token=$HOME/.ray/auth_token
shift || true
say() { echo "hosts.sh: $*" >&2; }
there() { # HOST COMMAND: in the checkout, with the environment's own python and ray first in PATH: jobs take theirs from it
  ${SSH:-ssh} "$1" "cd $(printf %q "$PWD") && export PATH=$(printf %q "$venv/bin"):\$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=\$HOME/.ray/auth_token \
RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=${RAY_worker_niceness:-0} RAY_JOB_STOP_SIGNAL=SIGINT RAY_JOB_STOP_WAIT_TIME_S=60 && $2"
}
fit() { # HOST: reached, with a checkout, an environment and the token
  there "$1" "test -x $(printf %q "$venv/bin/ray") && test -d study" < /dev/null ||
    { say "$1 is not reached by ssh, or has no checkout at $PWD with $venv/bin/ray; make install there"; exit 4; }
  there "$1" 'umask 077; mkdir -p ~/.ray; cat > ~/.ray/auth_token.new && mv ~/.ray/auth_token.new ~/.ray/auth_token' < "$token"
}
begin() { # HOST ARGUMENTS: a busy host makes Ray give up after 15 and 30 s, fixed in its code: again
  for ((left = ${RAY_TRIES:-6} - 1; left >= 0; left--)); do
    there "$1" "ray start ${*:2} ${RAY_START:-} --log-color false" < /dev/null && return
    [ "$left" = 0 ] || there "$1" "ray stop --force" < /dev/null
  done
  say "Ray does not start on $1; its log is above"
  exit 4
}
join() { for node in "${@:2}"; do fit "$node"; begin "$node" "--address=$1:$port"; done; }
case $verb in start | stop) least=1 ;; join) least=2 ;; *) least=999999 ;; esac
[ $# -ge $least ] || { say "start HEAD [NODE...], join HEAD NODE..., or stop HOST...; not '$verb${*:+ $*}'"; exit 2; }
case $verb in
  start)
    head=$1
    [ -s "$token" ] || (umask 077; mkdir -p "${token%/*}"; "$venv/bin/python" -c 'import secrets; print(secrets.token_hex(32), end="")' > "$token.$$"; mv "$token.$$" "$token")
    fit "$head"
    begin "$head" --head "--port=$port" --dashboard-host=127.0.0.1
    join "$@"
    there "$head" "python -m cluster.preflight --address $head:$port --nodes $# --only-wait" < /dev/null
    say "ready: python -m study.sweep NAME --address $head:$port ... on $head, or ray job submit --address http://127.0.0.1:8265 ... there"
    ;;
  join) join "$@" ;;
  stop) for host; do there "$host" "ray stop" < /dev/null; done ;;
esac
