"""Convolution of any rank: ``out[j] = sum_k w[k] * in[s*j - b + dilation*k]`` (+ bias).

Region transform on a spatial time axis: ``out [a, e) <- in [s*a - b, s*(e-1) - b + w)``. Padding along time is
split off into a Pad before it, so that one rule knows about the ends of a stream.
"""

from __future__ import annotations

from pulsify.ops._convolution import Convolution
from pulsify.ops._rule import register

register(Convolution(), "Conv")
