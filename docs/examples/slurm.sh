#!/bin/bash
# Training on two hosts under Slurm: sbatch slurm.sh. Not tried on a cluster; linted only.
#SBATCH --job-name=picoquant
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=picoquant-%j.log
set -euo pipefail

RECIPE=${RECIPE:-my.yml}                # the same file on all hosts
SAVE_DIR=${SAVE_DIR:-$PWD/output}       # on a file system that all hosts share
PROCESSES=${PROCESSES:-2}               # of each host

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# The launcher takes an address, not a name; the port differs from job to job.
MASTER=$(getent ahostsv4 "${hosts[0]}" | awk 'NR == 1 { print $1 }'):$((20000 + SLURM_JOB_ID % 20000))
PICOQUANT=$(command -v picoquant)
export MASTER PICOQUANT RECIPE SAVE_DIR PROCESSES

# One launcher a host; --kill-on-bad-exit ends all where one ends with an error, and the job's next start continues.
# shellcheck disable=SC2016  # expanded on each host
srun --kill-on-bad-exit=1 bash -c '
    exec python -m paddle.distributed.launch --master "$MASTER" --nnodes "$SLURM_NNODES" --rank "$SLURM_NODEID" \
        --nproc_per_node "$PROCESSES" --log_dir "logs-$SLURM_JOB_ID-$SLURM_NODEID" \
        "$PICOQUANT" train --config "$RECIPE" --save-dir "$SAVE_DIR" --set norm_type=sync_bn
'
