"""The version of loratools, which goes into the header of every file that it writes."""

__version__ = "0.1.0"
