"""SystemVerilog from a scheduled network."""
