"""Experts of a bundle in ONNX Runtime: providers proven, outputs computed, memory returned."""
