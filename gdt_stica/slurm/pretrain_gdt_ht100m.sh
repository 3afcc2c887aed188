#!/usr/bin/env bash
# GDT on HowTo100M, video and text:
# sbatch gdt_stica/slurm/pretrain_gdt_ht100m.sh HYPOTHESIS_DESC HYPOTHESIS
# HYPOTHESIS_DESC names the run's folder below SAV_FOLDER; HYPOTHESIS is 1 to 9 or a name.
# The partition: export SBATCH_PARTITION, which sbatch reads. Other machines: sbatch --nodes=2 ...
#SBATCH --job-name=gdt-ht100m
#SBATCH --nodes=8
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

DATA_ROOT=${DATA_ROOT:-/datasets/howto100m/videos}
CAPTION_ROOT=${CAPTION_ROOT:-/datasets/howto100m/captions}
WORD2VEC_DIR=${WORD2VEC_DIR:-datasets/data}
SAV_FOLDER=${SAV_FOLDER:-runs}

hypothesis_desc=${1:-vtext_basecase}
hypothesis=${2:-1}

srun python -u -m gdt_stica.main_gdt \
    --model vid_text_gdt \
    --dataset ht100m \
    --decode_audio False \
    --sample_rate 2 \
    --root_dir "$DATA_ROOT" \
    --ht100m_caption_root "$CAPTION_ROOT" \
    --word2vec_dir "$WORD2VEC_DIR" \
    --output_dir "$SAV_FOLDER/$hypothesis_desc" \
    --hypothesis "$hypothesis" \
    --batch_size 12 \
    --lr 1e-2 \
    --epochs 201 \
    --lr_milestones 251 \
    --workers 9
