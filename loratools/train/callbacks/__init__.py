"""What watches a training run: losses on record, progress bars, validation, samples, TensorBoard.

A new watcher is a file with a subclass of ``Callback``, and a line in the list of all.
"""
