#!/usr/bin/env bash
# sbatch cluster/slurm.sh STUDY.toml STORE RUN: a Ray cluster over the job's nodes, and the search on it.
# When the time is up, submit the same line again: the run goes on.
#SBATCH --job-name=sersearch
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
set -euo pipefail
study=$1 store=$2 run=$3

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

srun --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
sleep 15
workers=$((SLURM_JOB_NUM_NODES - 1))
if [ "$workers" -gt 0 ]; then
    srun --nodes="$workers" --ntasks="$workers" --exclude="$head" \
        ray start --address="$head:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
    sleep 15
fi

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    sersearch search "$study" --store "$store" --run "$run" --address "$head:$port"
