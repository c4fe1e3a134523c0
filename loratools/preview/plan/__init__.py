"""From a request to a list of pictures: stacks resolved, duplicates found, jobs in order.

Nothing is rendered here and no base is loaded.
"""
