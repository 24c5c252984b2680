"""Callbacks of training: your own code, Weights & Biases, TensorBoard, an early stop."""
