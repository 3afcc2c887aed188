#!/usr/bin/env bash
# STiCA on Kinetics-400: sbatch gdt_stica/slurm/pretrain_stica.sh NUM_FRAMES AUD_NUM_SEC \
#     NUM_LARGE_CROPS NUM_SMALL_CROPS NUM_SMALL_TCROPS NUM_LARGE_TCROPS NUM_LAYER
# 30 frames go with 1 s of sound, 60 with 2, 90 with 3, 120 with 4. Crops 5 and 6 are those in time,
# the small ones first. NUM_LAYER 0 is average pooling, otherwise layers of a transformer.
# The partition: export SBATCH_PARTITION, which sbatch reads. Other machines: sbatch --nodes=2 ...
#SBATCH --job-name=stica
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

DATA_ROOT=${DATA_ROOT:-/datasets/kinetics400}
SAV_FOLDER=${SAV_FOLDER:-runs}

num_frames=${1:-30}
aud_num_sec=${2:-1}
num_large_crops=${3:-2}
num_small_crops=${4:-4}
num_small_tcrops=${5:-1}
num_large_tcrops=${6:-2}
num_layer=${7:-0}

# Steps of time that the video network leaves of a clip.
case "$num_frames" in
    30) time_dim=4 ;;
    60) time_dim=8 ;;
    90) time_dim=12 ;;
    120) time_dim=15 ;;
    *)
        echo "NUM_FRAMES $num_frames: expected 30, 60, 90 or 120" >&2
        exit 2
        ;;
esac

crops="${num_large_crops}_${num_small_crops}_${num_small_tcrops}_${num_large_tcrops}"
srun python -u -m gdt_stica.main_stica \
    --root_dir "$DATA_ROOT" \
    --dump_path "$SAV_FOLDER/stica_${num_frames}_${aud_num_sec}_${crops}_${num_layer}" \
    --num_frames "$num_frames" \
    --num_sec "$((num_frames / 30))" \
    --num_sec_aud "$aud_num_sec" \
    --num_large_crops "$num_large_crops" \
    --num_small_crops "$num_small_crops" \
    --num_small_tcrops "$num_small_tcrops" \
    --num_large_tcrops "$num_large_tcrops" \
    --num_layer "$num_layer" \
    --transformer_time_dim "$time_dim" \
    --train_crop_size 112 \
    --batch_size 8 \
    --base_lr 0.64 \
    --start_warmup 0.01 \
    --temp 0.5 \
    --cross_modal_alpha 0.5 \
    --epochs 151 \
    --workers 9
