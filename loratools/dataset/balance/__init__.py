"""How often each class of pictures is shown: repeats by the guides' rules; the folders or the config that say so."""
