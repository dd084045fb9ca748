"""AutoAugment for detection (https://arxiv.org/abs/1906.11172): a pair of operations drawn from a learnt list."""

from picoquant.data.transforms.autoaugment.transform import AutoAugment

__all__ = ["AutoAugment"]
