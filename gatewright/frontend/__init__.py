"""From a PyTorch model to the tensor-level graph."""
