#!/usr/bin/env bash
#SBATCH --job-name=finetune-study
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:TERM@120
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 --time=24:00:00 cluster/slurm.sh paper --data /data --results /shared/results
# A Ray cluster of the job's own, one Ray node a Slurm node, and a sweep on it. The same line again resumes; so does Slurm after a node
# failure. SIGTERM two minutes before the limit makes the sweep stop cleanly. Ends, and frees its nodes, as soon as any part has ended.
set -euo pipefail
say() { echo "slurm.sh: $*" >&2; }
[ -n "${SLURM_SUBMIT_DIR:-}" ] || { say "submit it from the checkout: sbatch --nodes=N cluster/slurm.sh STUDY ..."; exit 2; }
cd "$SLURM_SUBMIT_DIR"
umask 077
venv=${VIRTUAL_ENV:-$PWD/.venv}
nodes=$SLURM_JOB_NUM_NODES
head=$(hostname)
step=(srun --overlap --ntasks-per-node=1 "--cpus-per-task=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}")
if ! srun --overlap --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 bash -c '
  for need in "$0/bin/ray" cluster/slurm_node.py; do [ -r "$need" ] || { echo "slurm.sh: $(hostname) has no $need" >&2; exit 1; }; done' "$venv"; then
  say "every node needs this checkout and its .venv at the same path ($PWD; make install), or an environment activated before sbatch"
  exit 4
fi

# a token and a folder of this job's own, whole or not there
secret=$HOME/.ray/slurm-$SLURM_JOB_ID
rm -rf "$secret" && mkdir -p "$secret"
"$venv/bin/python" -c 'import secrets; print(secrets.token_hex(32), end="")' > "$secret/token.new"
mv "$secret/token.new" "$secret/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$secret/token RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS
port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')

parts=() work=0 stopping=
ended() {  # asks processes to end, waits so many seconds, insists: a driver that hangs in Ray hears no TERM
  local end=$((SECONDS + $1)) p
  for p in "${@:2}"; do kill -TERM "$p" 2>/dev/null || true; done
  for p in "${@:2}"; do
    while kill -0 "$p" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.5; done
    kill -KILL "$p" 2>/dev/null || true
  done
}
end_all() {  # nothing of the job stays on its nodes
  trap '' TERM
  [ "$work" = 0 ] || ended 60 "$work"
  touch "$secret/over" # the parts look for it
  local end=$((SECONDS + 40)) p
  for p in "${parts[@]}"; do while kill -0 "$p" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.5; done; done
  ended 20 "${parts[@]}"
  "${step[@]}" --nodes="$nodes" --ntasks="$nodes" rm -rf "/tmp/ray-$SLURM_JOB_ID" 2>/dev/null || true
  rm -rf "$secret"
}
trap end_all EXIT
trap 'stopping=1; [ "$work" = 0 ] || kill -TERM "$work" 2>/dev/null || true' TERM
part() { "${step[@]}" --nodes=1 --ntasks=1 -w "$1" ${SLURM_GPUS_PER_NODE:+"--gpus-per-node=$SLURM_GPUS_PER_NODE"} "$venv/bin/python" -m cluster.slurm_node "$venv/bin/ray" "$port" "${@:2}" & parts+=($!); }
# Runs a command to its end, and gives its code: 143 when a signal came, 4 when a part of the cluster ended under it.
watched() {
  [ -z "$stopping" ] || return 143
  "$@" & work=$!
  while kill -0 "$work" 2>/dev/null; do
    wait -n || true
    for p in "${parts[@]}"; do
      if [ -z "$stopping" ] && ! kill -0 "$p" 2>/dev/null && kill -0 "$work" 2>/dev/null; then
        say "Ray ended on a node of job $SLURM_JOB_ID; the same line resumes"
        return 4
      fi
    done
  done
  local code=0
  wait "$work" || code=$?
  work=0
  return "$code"
}

part "$SLURMD_NODENAME"
export RAY_ADDRESS=$head:$port
# Not its port: a head that gives up and starts again had it open, as another cluster, which whoever knew it would be refused by
watched bash -c 'for _ in {1..900}; do [ -e "$0" ] && exit 0; sleep 1; done; echo "slurm.sh: no Ray head within 15 minutes" >&2; exit 4' "$secret/up" || exit $?
mapfile -t others < <(scontrol show hostnames "$SLURM_JOB_NODELIST" | grep -vx "$SLURMD_NODENAME")
for node in "${others[@]}"; do part "$node" "$head"; done
watched "$venv/bin/python" -m cluster.preflight --only-wait --nodes "$nodes" --wait 600 || exit $?
watched "$venv/bin/python" -m study.sweep "$@"
