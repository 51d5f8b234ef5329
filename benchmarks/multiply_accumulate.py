"""What a multiply-accumulate costs in each number format: LUTs after synthesis, without and with DSPs.

The linear layer 32 to 16 with 32 multipliers, both operands in the format, divided by 32: decoding, products, exact
sum, scales, the weights' memory and the streams around them included. Yosys 0.70, synth_xilinx -family xcup.
docs/formats.md shows these rows (``python tools/formats_page.py`` after this benchmark).
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.common import Row
from benchmarks.format_hardware import layer, layer_design
from gatewright.backends.synthesis import SynthesisResult

MULTIPLIERS = 32
PAIRS = {
    "fixed<16,auto>": "fixed<16,8>/fixed<16,14>",
    "fixed<8,auto>": "fixed<8,4>/fixed<8,6>",
    "fixed<6,auto>": "fixed<6,3>/fixed<6,4>",
    "fixed<4,auto>": "fixed<4,2>/fixed<4,2>",
}
"""Automatic fraction bits, which cost nothing, written out."""
SAME = (
    "ufixed<8,8>", "e4m3", "e5m2", "e3m4", "e3m2", "e2m3", "e2m1", "e4m3<flush>", "e3m2<denormal>", "log<5>",
    "log<4>", "ternary", "binary", "binary01", "mxint8", "mxint6", "mxint4", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2",
    "mxfp6_e2m3", "mxfp4", "mxfp4<16>", "nvfp4", "block<fixed<8,7>,e8m0,16>", "block<e3m2,e5m0,16>",
    "block<log<4>,e8m0,16>",
)  # fmt: skip
WEIGHTS = (
    "block<e2m1,bfloat16,16x16>", "binary<tensor>", "binary<channel>", "ternary<mean>", "ternary<mean,max>",
    "ternary<max>", "residual<2>", "residual<3>",
)  # fmt: skip
"""Formats for weights alone meet activations of fixed<8,4>."""


def rows() -> Iterator[Row]:
    """One row per format without DSP, and two with them where they are used."""
    pairs = {**PAIRS, **{name: f"{name}/{name}" for name in SAME}, **{name: f"fixed<8,4>/{name}" for name in WEIGHTS}}
    for name, pair in pairs.items():
        note = "" if name not in WEIGHTS else "with activations of fixed<8,4>"
        yield _row(name, layer(pair), note)
        design = layer_design(pair, use_dsp=True)
        if design.report().total.dsp:
            hard = design.synth()
            yield _row(f"{name}, with DSP", hard, note)
            title = f"multiply-accumulate {name}, with DSP: DSP"
            yield Row(title, hard.dsp / MULTIPLIERS, "DSP48E2", "synthesised", note=note)


def _row(name: str, found: SynthesisResult, note: str) -> Row:
    lut = found.lut / MULTIPLIERS
    return Row(f"multiply-accumulate {name}", lut, "LUT", "synthesised", note=note)
