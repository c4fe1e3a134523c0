"""Tags that a model gives: ONNX taggers, their thresholds and their probabilities, kept; and sentences of a captioner."""
