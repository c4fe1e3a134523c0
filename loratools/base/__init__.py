"""What a base model is: loading, prompt encoding, live patching W0 + w * delta, sampling, a picture's text."""
