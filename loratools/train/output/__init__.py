"""What a run leaves on disk: epoch files with their headers, the log, the state to resume from, the report.

Every file appears whole or not at all.
"""
