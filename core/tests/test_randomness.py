from __future__ import annotations

import zlib

import numpy as np
from ssvideo_core.randomness import epoch_order, generator


def test_generator_is_a_function_of_its_keys() -> None:
    wanted = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([7, 3, 11, zlib.crc32(b"views")]))
    )
    assert np.array_equal(generator(7, 3, 11, "views").random(5), wanted.random(5))
    assert generator(7, 3, 11, "views").random() != generator(7, 3, 11, "jitter").random()
    assert generator(7, 3, 11, "views").random() != generator(7, 11, 3, "views").random()


def test_epoch_order_is_a_permutation_that_changes() -> None:
    first, second = epoch_order(0, 0, 50), epoch_order(0, 1, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, epoch_order(0, 0, 50))
