"""Compile, for an NVIDIA H200 and without one, every kernel that a set of graphs would launch; run by a test.

Prints one line for each kernel that fails and a summary; exits 1 if any failed. Values are not computed.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gatewright.backends.triton import convert, load, maps, pads, products, prologues, rows, sums
from gatewright.backends.triton.access import KernelSource
from gatewright.backends.triton.program import Program
from gatewright.ir.graph import Graph
from gatewright.kernels import device

TARGET = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.int8: "*i8", torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64",
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16",
}  # fmt: skip
OPTIONS = ("num_warps", "num_stages")
done: dict[str, str] = {}


def compile_only(
    source: KernelSource, kind: str, grid: int, arguments: list[Any], out: torch.Tensor, **constants: Any
) -> None:
    """Stands in for a launch."""
    if not grid:
        return
    tables = load._placed(source, out.device)
    signature: dict[str, str] = {}
    function = load.load_kernel(source)
    given = [*arguments, *tables]
    for name, value in zip(function.arg_names, given, strict=False):
        signature[name] = TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
    fixed = {name: value for name, value in constants.items() if name not in OPTIONS}
    signature |= dict.fromkeys(fixed, "constexpr")
    key = f"{source.text}{signature}{constants}"
    if key in done:
        return
    options = {name: value for name, value in constants.items() if name in OPTIONS}
    try:
        compiled = triton.compile(ASTSource(function, signature, fixed), target=TARGET, options=options)
        done[key] = "wgmma" if "wgmma" in compiled.asm["ptx"] else "mma" if "mma.sync" in compiled.asm["ptx"] else ""
    except Exception as failure:  # each kind of failure is this check's result
        done[key] = "failed"
        print(f"FAILED {source.name}: {failure}\n{source.text}")


def graphs() -> list[tuple[Graph, int]]:
    """Operators' samples, and the products and rows of the tests, with a batch."""
    from tests.conformance.cases import all_cases, sampled_operators
    from tests.triton_backend.test_products import CASES, CASTS, cast_graph, product_graph
    from tests.triton_backend.test_prologues import FUNCTIONS, LAYOUTS, prologue_graph
    from tests.triton_backend.test_rows import softmax_graph

    found = [(case.integers, 6) for operator in sampled_operators() for case in all_cases(operator)[:2]]
    found += [(product_graph(*case), 40) for case in CASES.values()]
    found += [(product_graph("h q d, h k d -> h q k", (2, 5, 17), (2, 7, 17), ("ufixed<8,8>", "fixed<8,4>"), False), 4)]
    found += [(cast_graph(*case), 9) for case in CASTS.values()]
    found += [(prologue_graph(a, b, seed), 5) for seed, a in enumerate(LAYOUTS) for b in FUNCTIONS]
    found += [(softmax_graph(shape), 5) for shape in ((5,), (2, 2048))]
    return found


def main() -> int:
    """1 if a kernel does not compile."""
    for module in (convert, load, maps, pads, products, rows, sums):
        module.launch = compile_only
    device.uses_kernel = lambda value: True
    prologues.costs_less = lambda *_: True
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for graph, batch in graphs()[::step]:
        codes = [torch.zeros((batch, *value.shape), dtype=torch.int8) for value in graph.inputs]
        Program(graph)(*codes)
    failed = sum(each == "failed" for each in done.values())
    dots = sum(each in ("wgmma", "mma") for each in done.values())
    print(f"{len(done)} kernels, {dots} on tensor cores, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
