"""Norms of stacks, computed in a process of their own, so that the server never loads torch."""
