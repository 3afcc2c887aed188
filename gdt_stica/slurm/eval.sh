#!/usr/bin/env bash
# Fine-tuning and test on HMDB51 and UCF101, one after the other:
# bash gdt_stica/slurm/eval.sh WEIGHTS_PATH OUTPUT_DIR CKPT_NUM CLIP_LEN MODEL FOLD
# WEIGHTS_PATH: a file, the name of published weights, or the folder of a run; CKPT_NUM names the
# checkpoint in the results. MODEL: av_gdt, vid_text_gdt or stica. FOLD: 1, 2, 3 or 1,2,3.
# A cluster's job: sbatch --gpus=1 --cpus-per-task=10 --signal=USR1@300 --requeue ... eval.sh ...
set -euo pipefail

HMDB51_ROOT=${HMDB51_ROOT:-/datasets/hmdb51/videos}
HMDB51_SPLITS=${HMDB51_SPLITS:-/datasets/hmdb51/splits}
UCF101_ROOT=${UCF101_ROOT:-/datasets/ucf101/videos}
UCF101_SPLITS=${UCF101_SPLITS:-/datasets/ucf101/splits}

if [ $# -ne 6 ]; then
    echo "usage: bash eval.sh WEIGHTS_PATH OUTPUT_DIR CKPT_NUM CLIP_LEN MODEL FOLD" >&2
    exit 2
fi

evaluate() { # DATASET ROOT; the rest: the words above
    python -u -m gdt_stica.eval_video \
        --dataset "$1" \
        --root_dir "$2" \
        --hmdb51-annotation-path "$HMDB51_SPLITS" \
        --ucf101-annotation-path "$UCF101_SPLITS" \
        --weights-path "$3" \
        --output-dir "$4/$1" \
        --ckpt-epoch "$5" \
        --clip-len "$6" \
        --model "$7" \
        --fold "$8" \
        --workers 9
}

evaluate hmdb51 "$HMDB51_ROOT" "$@"
evaluate ucf101 "$UCF101_ROOT" "$@"
