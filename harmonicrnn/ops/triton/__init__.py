"""The recurrence by Triton kernels, for CUDA devices. Imported only where it computes: the package exists for Linux alone."""
