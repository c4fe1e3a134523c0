"""Options of sd-scripts' commands on LoRA files, and what to write here in their place."""

from __future__ import annotations

MERGE = {  # options of merge_lora.py and svd_merge_lora.py
    "--models": 'LoRAs and weights are one text, "A:0.5,B:0.5"',
    "--ratios": "a weight follows each LoRA's name and a colon",
    "--lbws": "a block vector follows the weight, A:0.5:GP1",
    "--save_to": "write -o",
    "--save_precision": "write --dtype",
    "--sd_model": "write --into",
    "--new_rank": "write --rank",
    "--concat": "leave it out; a sum is exact anyway",
}

RESIZE = {  # options of resize_lora.py
    "--model": "write the file alone",
    "--save_to": "write -o",
    "--save_precision": "write --dtype",
    "--new_rank": "write --rank",
    "--dynamic_method": "write --rank energy=0.9025 for sv_fro 0.95, the square",
    "--dynamic_param": "its square is the energy of --rank energy=0.9025",
}

EXTRACT = {  # options of extract_lora_from_models.py
    "--model_org": "write --base",
    "--model_tuned": "write --tuned",
    "--save_to": "write -o",
    "--save_precision": "write --dtype",
    "--dim": "write --rank",
    "--conv_dim": "write --conv",
}
