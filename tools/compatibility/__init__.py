"""Runs a part of the tests with another Python and with other versions of the packages, and keeps what came of it."""
