#!/bin/sh
# without_cuda.sh LOCK: splits a lock into rest.lock (with hashes, without torch and what only its CUDA build needs) and torch.txt
set -eu
awk '/^[A-Za-z]/ { keep = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/ } keep' "$1" > rest.lock
sed -n -E 's/^(torch|torchvision)==([^ ]+).*/\1==\2/p' "$1" > torch.txt
[ "$(wc -l < torch.txt)" -eq 2 ] || { echo "$1 names no torch and torchvision" >&2; exit 1; }
