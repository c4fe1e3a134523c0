"""From a folder of pictures to folders of classes that are trained on: cropped, enlarged, without copies, all recorded.

Originals are never touched; ``manifest.jsonl`` says what came of each.
"""
