"""Commands that tests start in processes of their own find PyTorch imported."""

from ssvideo_core.testing.programs import preload

preload("torch", "torch._dynamo")  # the second one because every optimizer imports it
