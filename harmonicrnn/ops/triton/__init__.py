"""The recurrence by Triton kernels, for CUDA devices. Imported only when used: triton exists for Linux only."""
