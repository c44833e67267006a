#!/usr/bin/env bash
# One Slurm node's part of a job's own Ray cluster, started by slurm.sh: slurm_node.sh RAY PORT [HEAD]. With HEAD it joins, else it is the head.
set -uo pipefail
ray=$1 port=$2 head=${3:-} folder=/tmp/ray-$SLURM_JOB_ID over=${RAY_AUTH_TOKEN_PATH%/*}/over
free() { "${ray%/*}/python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }
# what would be a fixed number is drawn, and sizes are told: another job may run on this very node
sizes=("--num-cpus=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}" "--num-gpus=${SLURM_GPUS_ON_NODE:-0}" --min-worker-port=0 --max-worker-port=0
  --object-store-memory=200000000 --log-color false) # trials pass nothing through the store
export RAY_worker_niceness=${RAY_worker_niceness:-0} # 15 without: trials would wait for every other job on the node
away() { find "${over%/*}" -name "away.*" | wc -l; } # nodes that joined and have ended
left() {  # processes of this node's Ray that go on without it: they write into the job's own folder
  local p
  for p in /proc/[0-9]*; do
    tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -qE 'ray::|/ray/' || continue
    [ -z "$(find "$p/fd" -lname "$folder/*" -print -quit 2>/dev/null)" ] || echo "${p#/proc/}"
  done
}
clear_up() {  # an agent may not notice for minutes that its Ray has ended
  local end=$((SECONDS + 10)) found
  while mapfile -t found < <(left) && [ "${#found[@]}" -gt 0 ]; do
    [ "$SECONDS" -lt "$end" ] && kill -TERM "${found[@]}" 2>/dev/null || kill -KILL "${found[@]}" 2>/dev/null
    sleep 0.5
  done
}
trap clear_up EXIT
mkdir -p "$folder"
for ((again = ${RAY_TRIES:-6} - 1; again >= 0; again--)); do
  where=("--dashboard-agent-listen-port=$(free)" "--temp-dir=$folder")
  if [ -z "$head" ]; then
    where+=(--head "--port=$port" --include-dashboard=false "--ray-client-server-port=$(free)")
  else
    where+=("--address=$head:$port")
  fi
  "$ray" start --block "${sizes[@]}" "${where[@]}" > >(tee "$folder/start.log") 2>&1 &
  part=$!
  trap 'kill -TERM "$part" 2>/dev/null; wait "$part"; exit 0' TERM INT
  while kill -0 "$part" 2>/dev/null; do
    if [ -e "$over" ]; then # a step that slurm.sh ended by a signal would be shot, and called failed
      # the head last: a node that ends tells the head, and waits 30 s for one that is gone
      for _ in {1..25}; do [ -z "$head" ] && [ "$(away)" -lt "$((${SLURM_JOB_NUM_NODES:-1} - 1))" ] && sleep 1 || break; done
      kill -TERM "$part" 2>/dev/null
      wait "$part"
      [ -z "$head" ] || touch "${over%over}away.${SLURM_NODEID:-0}.$(hostname)"
      exit 0
    fi
    [ -n "$head" ] || [ -e "${over%over}up" ] || ! grep -qs "Ray runtime started" "$folder/start.log" || touch "${over%over}up"
    sleep 1
  done
  wait "$part" && code=0 || code=$?
  # Ray gives up on a busy machine after 15 and 30 s, fixed in its code: again. What was up and ended is lost.
  if [ "$again" = 0 ] || grep -q "Ray runtime started" "$folder/start.log"; then
    echo "slurm_node.sh: Ray ended on $(hostname) ($code)" >&2
    exit $((code ? code : 1))
  fi
  echo "slurm_node.sh: Ray did not start on $(hostname); again" >&2
  sleep 2
done
