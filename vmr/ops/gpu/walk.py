"""What the scan's kernels share: how a chunk is walked and how B and C are read.

One program is one warp. It holds BD neighbouring channels of one batch item and walks one chunk of the sequence, T rows
at a time. Tuples of vectors stand for registers: rows and states are indexed by constants only. "Backwards" is an
address, nothing is flipped.

Symbols: L sequence length, D channels, N states a channel; `count` rows of the chunk that starts at row `begin`.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def row_at(begin, count, step, DESCENDING: tl.constexpr):
    """The memory row of a walk's step, from the chunk's end where DESCENDING; steps past the end stay on the last."""
    step = tl.minimum(step, count - 1)
    return (begin + (count - 1 - step if DESCENDING else step)).to(tl.int64)


@triton.jit
def load_B_C(pairs):
    """B and C of one row and state: two float32 in one load of 64 bits, whose halves are registers of their own."""
    both = tl.load(pairs)
    B = (both & 0xFFFFFFFF).to(tl.uint32).to(tl.float32, bitcast=True)
    C = (both >> 32).to(tl.uint32).to(tl.float32, bitcast=True)
    return B, C


@triton.jit
def silu_gate(z):
    """The logistic function, by the hardware's exponential to the base 2."""
    return 1.0 / (1.0 + tl.exp2(z * -LOG2_E))
