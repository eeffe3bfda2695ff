"""Computation of a bundle's experts with ONNX Runtime.

An execution provider is used only after it has reproduced the bundle's golden outputs.

- `runtime.Runtime`: the resident experts and their weighted sums
- `providers.open_session`, `providers.prove`: one ONNX file on one proven provider
- `memory.resident_memory`: memory of the process, and settings of glibc's allocator
"""
