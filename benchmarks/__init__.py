"""One script or package for each claim that the documentation makes; each prints a table, kept in ``results/``.

Run them as ``python -m benchmarks.NAME``. What several of them share (random models of full size) lies beside them.
"""
