"""Printers of the graph: PyTorch, Triton, SystemVerilog; and the tools that consume what they print."""
