"""Tags that a model gives: ONNX taggers, thresholds, probabilities that are kept; and sentences of a captioner."""
