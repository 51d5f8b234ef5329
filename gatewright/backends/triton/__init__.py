"""The integer graph printed as Triton kernels: the golden model at the speed of a GPU."""
