"""What lies in a folder of training pictures: files, captions, masks, repeats, and what is held out to judge by.

Reads pictures and text and knows nothing of training; :mod:`loratools.train.data` decides what an epoch shows.
"""
