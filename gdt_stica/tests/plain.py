"""The objective of GDT and its learning rate once more: NumPy, loops, one number at a time.

Written from the paper and from what is known of the released code's lists, not from our `src`,
which never imports this. All in float64.

A feature is found by features[modality][rank][copy][sample], a vector of D numbers; modality is 0
for video and 1 for sound, copies are 0 V1, 1 R1, 2 V2, 3 R2.
"""

from __future__ import annotations

import math

import numpy as np

VIDEO, SOUND = 0, 1
CALLS = {
    1: ["base 0"],
    2: ["variant 0 1"],
    3: ["base 0 1", "invariant 0 1"],
    4: ["variant 0 2"],
    5: ["base 0 2", "invariant 0 2"],
    6: ["variant 0 1", "variant 2 3", "variant 0 2", "variant 1 3"],
    7: ["base 0 1", "invariant 0 1", "invariant 2 3", "variant 0 2", "variant 1 3"],
    8: ["base 0 2", "variant 0 1", "variant 2 3", "invariant 0 2", "invariant 1 3"],
    9: [
        "base 0 1",
        "base 0 2",
        "invariant 0 1",
        "invariant 2 3",
        "invariant 0 2",
        "invariant 1 3",
    ],
}


class RemoteLists:
    """One list of other ranks' features for each copy and modality, kept for a whole step."""

    def __init__(self, features, rank, unique):
        self.unique = unique
        self.names = {}  # (copy, modality) to the names (modality, rank, copy, sample)
        for modality in (VIDEO, SOUND):
            for copy in range(4):
                self.names[copy, modality] = []
                for other in range(len(features[modality])):
                    if other == rank:
                        continue
                    for sample in range(len(features[modality][other][copy])):
                        self.names[copy, modality].append((modality, other, copy, sample))

    def use(self, kind, x, y, modality):
        """The list that a pair loss takes, grown on the way."""
        if y is None:
            return list(self.names[x, modality])
        if kind == "invariant":
            x, y = y, x
        for name in list(self.names[y, modality]):
            if not (self.unique and name in self.names[x, modality]):
                self.names[x, modality].append(name)
        return list(self.names[x, modality])


def gdt(features, rank, hypothesis, temperature, unique=False):
    """The loss of one rank, of each pair loss, and gradients for this rank's features.

    Returns (loss, call losses, gradients [modality, copy, sample, D]).
    """
    features = np.asarray(features, np.float64)  # [2, W, 4, B, D]
    gradients = np.zeros_like(features[:, rank])
    lists = RemoteLists(features, rank, unique)
    call_losses = []
    for call in CALLS[hypothesis]:
        kind, *copies = call.split()
        x = int(copies[0])
        y = int(copies[1]) if len(copies) == 2 else None
        remote = [lists.use(kind, x, y, modality) for modality in (VIDEO, SOUND)]
        directions = [(x, y, VIDEO, SOUND), (x, y, SOUND, VIDEO)]
        if y is not None:
            directions += [(y, x, VIDEO, SOUND), (y, x, SOUND, VIDEO)]
        share = 1 / (len(directions) * len(CALLS[hypothesis]))
        total = 0.0
        for own, other, query, key in directions:
            positive = other if kind == "invariant" else own
            keys = features[key][rank][positive]
            negatives = [features[name] for name in remote[key]]
            if kind == "variant":
                negatives += list(features[key][rank][other])
            loss, gradient = softmax_loss(features[query][rank][own], keys, negatives, temperature)
            total += loss / len(directions)
            gradients[query][own] += share * gradient
        call_losses.append(total)
    return sum(call_losses) / len(call_losses), np.array(call_losses), gradients


def softmax_loss(queries, keys, negatives, temperature):
    """Mean over i of −log(exp(q_i·k_i/τ) / sum over all candidates), and its gradient for q."""
    loss, gradient = 0.0, np.zeros_like(queries)
    candidates = [*keys, *negatives]
    for i, query in enumerate(queries):
        scores = [math.fsum(query * candidate) / temperature for candidate in candidates]
        largest = max(scores)
        weights = [math.exp(score - largest) for score in scores]
        normaliser = math.fsum(weights)
        loss += (largest + math.log(normaliser) - scores[i]) / len(queries)
        for weight, candidate in zip(weights, candidates, strict=True):
            gradient[i] += weight / normaliser * candidate
        gradient[i] -= keys[i]
    return loss, gradient / (temperature * len(queries))


def released_rates(base_rate, *, epochs, multiplier, warmup_epochs, kind, milestones=(), gamma=0.1):
    """The rate of every epoch as the released code's two schedulers make it, stepped in turn.

    A ramp counts epochs; when it has ended, a second scheduler is started with the multiplied rate
    and its milestones moved to its own count, and it is stepped once an epoch from then on.
    """
    rates = []
    after = -1  # steps of the second scheduler
    for epoch in range(epochs):
        if warmup_epochs and epoch <= warmup_epochs:
            share = epoch / warmup_epochs
            factor = share if multiplier == 1 else 1 + (multiplier - 1) * share
            rates.append(base_rate * factor)
            continue
        after += 1
        rate = base_rate * multiplier if warmup_epochs else base_rate
        if kind == "multi_step":
            for milestone in milestones:
                if after >= milestone - warmup_epochs:
                    rate *= gamma
        else:
            rate *= 0.5 + 0.5 * math.cos(math.pi * after / epochs)
        rates.append(rate)
    return np.array(rates)
