"""Simulation: the golden model, stimulus, the Verilator and cocotb harnesses, and linting."""
