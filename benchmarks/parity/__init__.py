"""A training step of ours against one of sd-scripts, on the same weights and random numbers: losses and gradients.

``__main__`` has the cases, ``models`` the random models, ``peer`` runs sd-scripts' step, ``replay`` hands it our draws.
"""
