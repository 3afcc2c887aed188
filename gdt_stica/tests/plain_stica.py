"""The objective of STiCA, its crops and its learning rate once more: NumPy, one number at a time.

Written from the paper and from what is known of the released code, not from our `src`, which never
imports this. All in float64.

An embedding is found by embeddings[name][rank][clip], a vector of D numbers. Names are tuples:
("f", "space_large", 0) is the first large crop of the first view, ("g", "time_small", 1) the second
small crop in time of the second view, ("f", "full", 0) a whole map, ("g", "audio", 0) a sound.
"""

from __future__ import annotations

import math

import numpy as np


def names(num_large, num_small, num_large_t, num_small_t):
    """Every name that a step may use."""
    found = []
    for view in "fg":
        for crop, number in (
            ("space_large", num_large),
            ("space_small", num_small),
            ("time_large", num_large_t),
            ("time_small", num_small_t),
            ("full", 1),
            ("audio", 1),
        ):
            for index in range(number):
                found.append((view, crop, index))
    return found


def stica(
    embeddings,
    rank,
    *,
    num_large,
    num_small,
    num_large_t,
    num_small_t,
    alpha,
    temperature,
    audio_temperature,
):
    """One rank's loss, its pair losses in the released order, and gradients of its embeddings.

    Returns (loss, call losses, {name: gradient [clip, D]}).
    """
    gradients = {name: np.zeros_like(values[rank]) for name, values in embeddings.items()}
    crop_calls, sound_calls = [], []  # each call: (weight-free loss, [(name, gradient), ...])

    def find(query, key, t):
        candidates = list(embeddings[key][rank])
        for other in range(len(embeddings[key])):
            if other != rank:
                candidates += list(embeddings[key][other])
        return softmax_loss(embeddings[query][rank], candidates, t)

    for place, large, small in (
        ("space", num_large, num_small),
        ("time", num_large_t, num_small_t),
    ):
        for i in range(large):
            if i == 1:
                f, g = ("f", f"{place}_large", 1), ("g", f"{place}_large", 1)
                crop_calls.append(both(find, f, g, temperature))
            for j in range(small):
                key, query = ("f", f"{place}_large", i), ("g", f"{place}_small", j)
                loss, gradient = find(query, key, temperature)
                crop_calls.append((loss, [(query, gradient)]))
    if alpha > 0:
        for view in "fg":
            call = both(find, (view, "full", 0), (view, "audio", 0), audio_temperature)
            sound_calls.append(call)

    total = 0.0
    for calls, share in ((crop_calls, 1 - alpha), (sound_calls, alpha)):
        for loss, pulls in calls:
            total += share * loss / len(calls)
            for name, gradient in pulls:
                gradients[name] += share * gradient / len(calls)
    losses = [loss for loss, _ in crop_calls + sound_calls]
    return total, np.array(losses), gradients


def both(find, x, y, t):
    """x finds y and y finds x, averaged."""
    (loss_x, gradient_x), (loss_y, gradient_y) = find(x, y, t), find(y, x, t)
    return (loss_x + loss_y) / 2, [(x, gradient_x / 2), (y, gradient_y / 2)]


def softmax_loss(queries, candidates, t):
    """Query i finds candidate i: the mean over i, and its gradient for the queries."""
    loss, gradient = 0.0, np.zeros_like(queries)
    for i, query in enumerate(queries):
        scores = [math.fsum(query * candidate) / t for candidate in candidates]
        normaliser = math.fsum(math.exp(score) for score in scores)
        loss += (math.log(normaliser) - scores[i]) / len(queries)
        for score, candidate in zip(scores, candidates, strict=True):
            gradient[i] += math.exp(score) / normaliser * candidate
        gradient[i] -= candidates[i]
    return loss, gradient / (t * len(queries))


def released_boxes(offset, num_large, num_small, num_large_t, num_small_t, duration):
    """The crops of one view of a 7 x 7 map in the order in which the released code draws them.

    offset(n): a whole number from 0 to n - 1. Returns rows y0, y1, x0, x1 and t0, t1 by name, with
    all small boxes.
    """
    found = {"space_large": [], "space_small": [], "time_large": [], "time_small": []}
    if num_small > 0 or num_large > 1:
        for _ in range(num_large):
            y, x = offset(7 - 6), offset(7 - 6)
            found["space_large"].append([y, y + 6, x, x + 6])
            for _ in range(num_small):
                y, x = offset(7 - 4), offset(7 - 4)
                found["space_small"].append([y, y + 4, x, x + 4])
    large, small = (3, 2) if duration == 4 else (6, 4)
    if num_small_t > 0 or num_large_t > 1:
        for _ in range(num_large_t):
            t = offset(duration - large)
            found["time_large"].append([t, t + large])
            for _ in range(num_small_t):
                t = offset(duration - small)
                found["time_small"].append([t, t + small])
    return found


def rates(iters_per_epoch, epochs, warmup_epochs, start_warmup, base_lr, final_lr, cosine):
    """The rate of every iteration: two lists, one after the other."""
    first = np.linspace(start_warmup, base_lr, iters_per_epoch * warmup_epochs)
    rest = np.arange(iters_per_epoch * (epochs - warmup_epochs))
    if cosine:
        second = [
            final_lr + 0.5 * (base_lr - final_lr) * (1 + math.cos(math.pi * i / len(rest)))
            for i in rest
        ]
    else:
        second = [base_lr for _ in rest]
    return np.concatenate([first, second])
