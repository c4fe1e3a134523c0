"""Speed and memory of training against sd-scripts and against a plain diffusers + PEFT loop.

``__main__`` reads the command line, ``parts`` are the measurements, ``bench`` is what they train on.
"""
