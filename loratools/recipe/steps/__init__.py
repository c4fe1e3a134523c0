"""One module a step kind. Each has ``REVISION`` (raised when the same settings begin to give another result),
``default_out(name)`` and ``draft(name, step, planner)``, which resolves a step and says how to run it."""
