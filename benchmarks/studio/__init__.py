"""The studio against its figures: pictures that follow the drag, and a server that lasts.

``__main__`` reads the command line and writes ``benchmarks/results/studio.md``; each part is a file.
"""
