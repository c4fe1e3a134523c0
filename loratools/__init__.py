"""loratools: a post-training LoRA toolbox for Stable Diffusion.

The rooms are the map: ``adapter`` (what a LoRA file is), ``blocks`` (what a block vector is), ``ops`` (adapter to
adapter), ``pocket`` (the embedded base model), ``base`` (what a base model is), ``train``, ``preview``, ``recipe``,
``cli``. Import from the rooms; nothing heavy is imported here.
"""

__version__ = "0.1.0"
