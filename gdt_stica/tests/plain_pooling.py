"""STiCA's pooling once more: NumPy, loops, one token and one head at a time, float64.

Written from the paper (arXiv 2103.10211, section 3.3) and the specification, not from our `src`,
which never imports this. `weights` maps the names inside `video_pooling.2.` to arrays.
"""

from __future__ import annotations

import math

import numpy as np


def pooled(feature_map, weights, *, num_layer, num_head, tokens):
    """(B, C, T, H, W) to (B, C)."""
    clips = np.asarray(feature_map, np.float64)
    return np.stack(
        [transform(steps(clip, tokens), weights, num_layer, num_head) for clip in clips]
    )


def steps(clip, count):
    """(C, T, H, W) to (count, C): averages over space and over `count` spans of time.

    Span i goes from frame floor(i T / count) to frame ceil((i + 1) T / count), excluded.
    """
    num_frames = clip.shape[1]
    found = []
    for i in range(count):
        start, stop = i * num_frames // count, math.ceil((i + 1) * num_frames / count)
        found.append([np.mean([plane[t].mean() for t in range(start, stop)]) for plane in clip])
    return np.array(found)


def transform(tokens, weights, num_layer, num_head):
    """(N, C) to (C,): the output at the first token."""
    if "pos_embs.0.weight" in weights:
        tokens = tokens + np.asarray(weights["pos_embs.0.weight"], np.float64)[: len(tokens)]
    for index in range(num_layer):
        start = f"transformer.{index}."
        layer = {
            name.removeprefix(start): np.asarray(value, np.float64)
            for name, value in weights.items()
            if name.startswith(start)
        }
        tokens = norm(tokens + attention(tokens, layer, num_head), layer, "norm1")
        hidden = gelu(linear(tokens, layer, "ffn.lin1"))
        tokens = norm(tokens + linear(hidden, layer, "ffn.lin2"), layer, "norm2")
    return tokens[0]


def attention(tokens, layer, num_head):
    queries, keys = linear(tokens, layer, "mha.q_lin"), linear(tokens, layer, "mha.k_lin")
    values = linear(tokens, layer, "mha.v_lin")
    size = tokens.shape[1] // num_head
    mixed = np.zeros_like(tokens)
    for head in range(num_head):
        own = slice(head * size, (head + 1) * size)
        for i, query in enumerate(queries[:, own]):
            scores = [math.fsum(query * key) / math.sqrt(size) for key in keys[:, own]]
            shares = [math.exp(score - max(scores)) for score in scores]
            for share, value in zip(shares, values[:, own], strict=True):
                mixed[i, own] += share / math.fsum(shares) * value
    return linear(mixed, layer, "mha.out_lin")


def linear(x, layer, name):
    """A layer that is not there changes nothing."""
    if f"{name}.weight" not in layer:
        return x
    return x @ layer[f"{name}.weight"].T + layer[f"{name}.bias"]


def norm(x, layer, name):
    mean = x.mean(axis=1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=1, keepdims=True)
    scaled = (x - mean) / np.sqrt(variance + 1e-12)
    return scaled * layer[f"{name}.weight"] + layer[f"{name}.bias"]


def gelu(x):
    """Exact: x times the normal distribution's share below x."""
    return np.array([[v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in row] for row in x])
