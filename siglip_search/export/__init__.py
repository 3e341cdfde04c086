"""Making towers, from checkpoints or smaller from others; the home of torch and onnx."""
