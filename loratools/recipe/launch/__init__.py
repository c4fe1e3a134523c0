"""A recipe's steps shared by several processes that a launcher started.

One leads, the others work on what it posts.
"""
