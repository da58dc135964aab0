"""Randomness as a function of where a training stands, and not of what was drawn before.

A generator that runs on from step to step cannot be resumed exactly: loader workers prefetch, validation and
iterators draw from it, a teacher's initialisation shifts it. So every step and every sample is given a seed
of its own, made of the run's seed and of its place.
"""

import random

import numpy as np
import torch

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """Hash whole numbers into one of 64 bits (SplitMix64, each number folded in turn)."""
    state = 0
    for number in numbers:
        state = (state ^ (number & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def seed_everything(*place: int) -> None:
    """Seed Python, numpy and torch, on every device, from the numbers that name a place."""
    seed = mix(*place)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.manual_seed(seed >> 1)
