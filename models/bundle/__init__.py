"""A prepared model on disk: backbone, ONNX experts with proof, manifest; read and written."""
