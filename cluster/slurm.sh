#!/usr/bin/env bash
#SBATCH --job-name=finetune-study
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=B:TERM@120
# sbatch cluster/slurm.sh paper --data /data --results /shared/results
# One Ray node a Slurm node; the same line again resumes. SIGTERM two minutes before the limit makes the sweep stop cleanly.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?submit with sbatch from the checkout}"
umask 077
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.ray/study_token"
[ -f "$RAY_AUTH_TOKEN_PATH" ] || { mkdir -p "$HOME/.ray"; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"; }
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000))
srun --nodes=1 --ntasks=1 -w "${nodes[0]}" .venv/bin/ray start --head --port="$port" --dashboard-host=127.0.0.1 --block &
sleep 15
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 -w "$node" .venv/bin/ray start --address="${nodes[0]}:$port" --block &
done
sleep 15
export RAY_ADDRESS="${nodes[0]}:$port"
.venv/bin/python -m study.sweep "$@" &
sweep=$!
trap 'kill -TERM "$sweep"' TERM
wait "$sweep" || wait "$sweep"
