"""The PyTorch backend: the trainable module printed from the graph, and evaluation in PyTorch."""
