"""The two conditions under which the paper ranks models (Section 5.2)."""

from typing import Literal

Condition = Literal["noisy", "clean"]
CONDITIONS: tuple[Condition, ...] = ("noisy", "clean")
"""Noisy: an utterance's clean copy and its noisy ones. Clean: the clean copy alone."""
