#!/usr/bin/env bash
# BraVe from shards of videos: sbatch brave/slurm/pretrain.sh VIEWS RUN [FLAG ...]
# VIEWS: a recipe without its "train-", such as v-a-1x (sound) or v-af-2x (sound and flow, twice the
# channels); `python -m brave recipes` lists them. RUN names the folder below SAV_FOLDER. FLAG: as
# in --config.experiment.global_batch_size=256. A job that was stopped goes on when it starts again.
# The partition: export SBATCH_PARTITION, which sbatch reads. Other machines: sbatch --nodes=2 ...
# Each task drives one GPU.
#SBATCH --job-name=brave
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=10
#SBATCH --time=72:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

# Since SLURM 22.05 srun does not take --cpus-per-task from sbatch by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-10}

DATA_SHARDS=${DATA_SHARDS:-/datasets/training_shards}
SAV_FOLDER=${SAV_FOLDER:-runs}

if [ $# -lt 2 ]; then
    echo "usage: sbatch pretrain.sh VIEWS RUN [FLAG ...]" >&2
    exit 2
fi

views=$1
run=$2
shift 2

srun python -u -m brave recipes run "train-$views" \
    --data "$DATA_SHARDS" \
    --out "$SAV_FOLDER/$run" \
    -- --workers 9 "$@"
