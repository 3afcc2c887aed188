"""Fine-tuning and its test once more: NumPy, loops, one number at a time.

Written from the papers and from what is known of the released code, not from our `src`, which never
imports this. All in float64.
"""

from __future__ import annotations

import math

import numpy as np


def factors(epochs, warmup_epochs=2, milestones=(6, 10), gamma=0.05, multiplier=8):
    """What the rates are multiplied by in each epoch, by two schedules that follow each other.

    The first one rises in a straight line. When it has ended, the second one begins to count, with
    its milestones moved by the length of the first, and is stepped once before its first epoch.
    """
    found = []
    for epoch in range(epochs):
        if warmup_epochs and epoch <= warmup_epochs:
            found.append(1 + (multiplier - 1) * epoch / warmup_epochs)
            continue
        factor = float(multiplier) if warmup_epochs else 1.0
        counted = epoch - warmup_epochs - 1 if warmup_epochs else epoch
        for milestone in milestones:
            if counted >= milestone - warmup_epochs:
                factor *= gamma
        found.append(factor)
    return found


def cross_entropy(logits, labels):
    """Mean of −log softmax at the label, and its gradient for the logits."""
    logits = np.asarray(logits, np.float64)
    total, gradient = 0.0, np.zeros_like(logits)
    for i, (row, label) in enumerate(zip(logits, labels, strict=True)):
        largest = max(row)
        normaliser = math.fsum(math.exp(value - largest) for value in row)
        total += largest + math.log(normaliser) - row[label]
        for k, value in enumerate(row):
            gradient[i, k] = math.exp(value - largest) / normaliser - (k == label)
    return total / len(logits), gradient / len(logits)


def sgd(value, gradient, buffer, rate, momentum, weight_decay):
    """SGD with decay added to the gradient; returns the new value and the new momentum."""
    gradient = gradient + weight_decay * value
    buffer = gradient if buffer is None else momentum * buffer + gradient
    return value - rate * buffer, buffer


def mean_logits(clips):
    """Of the clips of a video, [V, C]: the plain mean, no softmax."""
    count, size = len(clips), len(clips[0])
    return np.array([math.fsum(float(clip[k]) for clip in clips) / count for k in range(size)])


def is_in_top(scores, label, k):
    """Whether fewer than k classes come before the right one; of equal scores the lower does."""
    before = 0
    for other, score in enumerate(scores):
        if score > scores[label] or (score == scores[label] and other < label):
            before += 1
    return before < k


def crops(height, width, size, spatial):
    """(y, x) of square crops of a frame whose shorter side is `size` already."""
    y, x = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if spatial == 1:
        return [(y, x)]
    if height > width:
        return [(0, x), (y, x), (height - size, x)]
    return [(y, 0), (y, x), (y, width - size)]
