"""How other tools apply a LoRA file: one module for each, run by ``benchmarks.loaders`` in that tool's own environment.

They need torch and safetensors beside the tool itself, and nothing of loratools. Each calls the tool's own code on
the files of a job and compares what it would add to every weight with what was asked. Only
:mod:`.cases`, which writes these files, is on loratools' side.
"""
