"""What this processor's units for bfloat16 are, asked of the processor itself."""

import warnings
from functools import cache

import torch

UNITS = ("amx_bf16", "avx512_bf16")
"""Instructions that multiply bfloat16 and add in float32, fastest first, under the names that torch gives them."""


def bf16_unit() -> str | None:
    """Name the instructions by which this processor multiplies bfloat16; None if it has none of `UNITS`.

    Without them, products of bfloat16 are converted to float32 first, which is slower than float32 itself.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        # Only oneDNN uses these instructions.
        return None
    capabilities = torch.cpu.get_capabilities()
    return next((unit for unit in UNITS if capabilities.get(unit)), None)


def bf16_on_this_processor() -> bool:
    """Whether to compute `precision = "bf16"` in bfloat16; if the processor has no unit for it, warn once per process.

    The answer is for a CPU. A GPU computes bfloat16 in any case.
    """
    if bf16_unit():
        return True
    warn_of_float32()
    return False


@cache
def warn_of_float32() -> None:
    """Say, once per process, that bfloat16 is computed as float32."""
    warning = (
        'precision = "bf16" is computed as float32, because this processor has no units for bfloat16 '
        f"({' or '.join(UNITS)})"
    )
    # Without a source file, Python prints it as one line.
    warnings.warn_explicit(warning, RuntimeWarning, "sersearch", 0)
