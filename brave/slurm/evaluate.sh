#!/usr/bin/env bash
# A linear SVM on HMDB51 and UCF101, three splits each:
# sbatch brave/slurm/evaluate.sh CHECKPOINT_PATH OUTPUT_DIR
# CHECKPOINT_PATH: a file, the name of published weights, or the folder of a run. A job that was
# stopped goes on when it starts again.
# The partition: export SBATCH_PARTITION, which sbatch reads.
#SBATCH --job-name=brave-evaluate
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

# Since SLURM 22.05 srun does not take --cpus-per-task from sbatch by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-16}

HMDB51_SHARDS=${HMDB51_SHARDS:-/datasets/hmdb51_shards}
UCF101_SHARDS=${UCF101_SHARDS:-/datasets/ucf101_shards}
SVM_REGULARIZATION=${SVM_REGULARIZATION:-0.0001}
BATCH_SIZE=${BATCH_SIZE:-32}

if [ $# -ne 2 ]; then
    echo "usage: sbatch evaluate.sh CHECKPOINT_PATH OUTPUT_DIR" >&2
    exit 2
fi

evaluate() { # DATASET SHARDS; the rest: the words above
    srun python -u -m brave.evaluate_video_embeddings \
        --dataset "$1" \
        --train_dataset_shards "$2/split_{split}/train/*" \
        --test_dataset_shards "$2/split_{split}/test/*" \
        --splits 1,2,3 \
        --checkpoint_path "$3" \
        --out "$4/$1" \
        --svm_regularization "$SVM_REGULARIZATION" \
        --batch_size "$BATCH_SIZE" \
        --workers 15
}

evaluate hmdb51 "$HMDB51_SHARDS" "$@"
evaluate ucf101 "$UCF101_SHARDS" "$@"
