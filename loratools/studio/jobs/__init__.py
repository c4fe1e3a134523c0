"""The queue: jobs are commands of the command line, each in a process of its own that outlives the server.

No kept library fits: huey's processes need ``fork`` (none on Windows) and its queue knows no order that a person
changes, no pause, and nothing of a worker that outlives it; persist-queue is a list on disk. What is needed beyond
SQLite is a few hundred lines.
"""
