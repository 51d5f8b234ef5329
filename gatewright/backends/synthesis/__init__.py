"""Synthesis with Yosys: what a design takes in an FPGA, without a vendor's tool."""

from gatewright.backends.synthesis.families import FAMILIES, Family, Resources
from gatewright.backends.synthesis.flow import SynthesisResult, synthesise
from gatewright.backends.synthesis.hierarchy import ModuleUse
from gatewright.backends.synthesis.tool import Tool, find_tool, run_yosys

__all__ = [
    "FAMILIES",
    "Family",
    "ModuleUse",
    "Resources",
    "SynthesisResult",
    "Tool",
    "find_tool",
    "run_yosys",
    "synthesise",
]
