"""Operators that do not stream, each with the reason and what to do instead.

A node that no time reaches is copied as it is, whatever its operator, except where it draws random numbers: those
would be drawn anew every pulse.
"""

from __future__ import annotations

from pulsify.ops._rule import Refused, register

_WINDOW = "export attention as MatMul and Softmax over a bounded window of frames"

register(Refused("attention over time looks at every frame of the stream", _WINDOW), "Attention")
register(
    Refused("attention over time keeps a state of its own, and sees filler after the end", _WINDOW), "LinearAttention"
)
register(
    Refused(
        "it looks angles up by position, counted from the start of the sequence",
        "export the rotation as Mul and Add of tables sliced by the input's length",
    ),
    "RotaryEmbedding",
)
register(
    Refused(
        "it writes into a cache that the caller keeps",
        "export the model without a cache: the pulsed model keeps its own",
    ),
    "TensorScatter",
)
register(
    Refused("it carries a state that the caller keeps", "export it as a Conv padded on the left"), "CausalConvWithState"
)
register(
    Refused("it draws random numbers", "export the model in evaluation mode, or feed the noise as an input", anywhere=True),
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
)  # fmt: skip
register(
    Refused("how many entries it finds depends on the data of the whole stream", "leave it out (--outputs)"),
    "NonMaxSuppression", "Unique",
)  # fmt: skip
register(
    Refused("it samples at places that the data or a grid gives, anywhere in the stream", "resample with Resize"),
    "AffineGrid", "DeformConv", "GridSample", "MaxRoiPool", "RoiAlign",
)  # fmt: skip
register(
    Refused("it puts values back at places counted in the whole tensor", "upsample with Resize or ConvTranspose"),
    "MaxUnpool",
)
register(Refused("it adds overlapping columns up over the whole image", "export it as ConvTranspose"), "Col2Im")
register(
    Refused("it is a training loss, averaged over the whole stream", "export the model without its loss"),
    "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss",
)  # fmt: skip
register(
    Refused("sequences of tensors have no time axis", "export with Split and Concat, or unroll the loop"),
    "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
    "SequenceLength", "SequenceMap", "SplitToSequence",
)  # fmt: skip
register(
    Refused("optional values have no time axis", "export the model with that input always there"),
    "Optional", "OptionalGetElement", "OptionalHasElement",
)  # fmt: skip
register(
    Refused("strings do not stream: a state cannot hold them", "do this before the model"),
    "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit",
)  # fmt: skip
register(Refused("it counts n-grams over the whole stream", "do this outside the model"), "TfIdfVectorizer")
register(Refused("it decodes a whole file", "do this before the model"), "ImageDecoder")
register(Refused("it was withdrawn from ONNX", "export with ScatterElements"), "Scatter")
register(Refused("it was withdrawn from ONNX", "export with Resize"), "Upsample")
register(
    Refused("it moves blocks of frames between time and channels", "export with Reshape and Transpose"),
    "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
register(
    Refused("how many entries it finds depends on the data of the whole stream", "select with Where instead"), "NonZero"
)
