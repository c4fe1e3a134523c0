"""Running a plan: the cache, the work folder, steps side by side, estimates, and why a step is stale.

What a step does lies in ``recipe/steps``.
"""
