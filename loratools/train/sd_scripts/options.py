"""Every training option that sd-scripts has for a LoRA on SD1, SD2 and SDXL, and what becomes of it here.

Each name stands in one table: translated, translated together with others, true of every run anyway, or refused with
what to use instead.
"""

from __future__ import annotations

from loratools.train.sd_scripts.dataset_toml import DATASET_KEYS, SUBSET_KEYS
from loratools.train.sd_scripts.dataset_toml import DEFAULTS as DATASET_DEFAULTS
from loratools.train.sd_scripts.lycoris_args import MODULE as LYCORIS
from loratools.train.sd_scripts.network_args import OPTIONS as NETWORK_OPTIONS

_SAME = (
    # of the objective
    "min_timestep", "max_timestep", "zero_terminal_snr", "noise_offset_random_strength", "adaptive_noise_scale",
    "multires_noise_iterations", "multires_noise_discount", "ip_noise_gamma", "ip_noise_gamma_random_strength",
    "loss_type", "huber_schedule", "huber_c", "huber_scale", "debiased_estimation_loss",
    "scale_v_pred_loss_like_noise_pred", "v_pred_like_loss",
    # of the network and the text
    "network_dropout", "network_weights", "dim_from_weights", "scale_weight_norms", "max_token_length",
    "weighted_captions",
)  # fmt: skip
_OF_FOLDERS = frozenset({"num_repeats", "class_tokens", "metadata_file", "is_reg", "conditioning_data_dir"})
# sd-scripts' option -> our setting, where the value means the same. The first twenty are the most used.
OPTIONS = {
    "pretrained_model_name_or_path": "base",
    "train_data_dir": "images",
    "output_dir": "out",
    "output_name": "name",
    "resolution": "resolution",
    "max_train_epochs": "epochs",
    "train_batch_size": "batch_size",
    "network_dim": "dim",
    "network_alpha": "alpha",
    "learning_rate": "learning_rate",
    "unet_lr": "unet_lr",
    "text_encoder_lr": "te_lr",
    "optimizer_type": "optimizer",
    "lr_scheduler": "lr_scheduler",
    "lr_warmup_steps": "lr_warmup",
    "mixed_precision": "mixed_precision",
    "save_precision": "dtype",
    "seed": "seed",
    "clip_skip": "clip_skip",
    "noise_offset": "noise_offset",
    "min_snr_gamma": "min_snr_gamma",
    "optimizer_args": "optimizer_args",
    "lr_scheduler_num_cycles": "lr_cycles",
    "lr_scheduler_power": "lr_power",
    "lr_scheduler_min_lr_ratio": "lr_min_ratio",
    "lr_scheduler_timescale": "lr_timescale",
    "lr_decay_steps": "lr_decay",
    **dict(zip(_SAME, _SAME, strict=True)),
    "max_grad_norm": "max_grad_norm",
    "gradient_accumulation_steps": "gradient_accumulation",
    "training_comment": "comment",
    "prior_loss_weight": "prior_loss_weight",
    "gradient_checkpointing": "gradient_checkpointing",
    "torch_compile": "compile",
    "vae": "vae",
    "dataset_repeats": "repeats",
    "caption_extention": "caption_extension",
    **{theirs: ours for theirs, ours in DATASET_KEYS.items() if theirs not in ("batch_size", "resolution")},
    **{theirs: ours for theirs, ours in SUBSET_KEYS.items() if theirs not in _OF_FOLDERS},
    "validation_seed": "validation_seed",
    "save_every_n_steps": "save_every_steps",
    "save_every_n_epochs": "save_every_epochs",
    "save_last_n_epochs": "save_last_n",
    "validate_every_n_epochs": "validate_every_epochs",
    "validate_every_n_steps": "validate_every_steps",
    "sample_prompts": "sample_prompts",
    "sample_every_n_epochs": "sample_every_epochs",
    "sample_every_n_steps": "sample_every_steps",
    "sample_at_first": "sample_at_first",
    "sample_sampler": "sample_sampler",
    "logging_dir": "tensorboard",
}
# of these, 0 stands for none
OR_NONE = frozenset(
    {
        "network_alpha",
        "min_snr_gamma",
        "max_timestep",
        "scale_weight_norms",
        "adaptive_noise_scale",
        "save_every_n_steps",
        "save_every_n_epochs",
        "save_last_n_epochs",
        "validate_every_n_epochs",
        "validate_every_n_steps",
        "sample_every_n_epochs",
        "sample_every_n_steps",
    }
)
# what a file says of itself: ``metadata_title`` and so on -> ``modelspec``
METADATA = (
    "title",
    "author",
    "description",
    "license",
    "tags",
    "usage_hint",
    "merged_from",
    "trigger_phrase",
    "preprocessor",
    "is_negative_embedding",
)
# translated together with another option, see config_file.py
COMBINED = frozenset({
    "dataset_config", "cache_latents", "cache_latents_to_disk", "network_train_unet_only",
    "network_train_text_encoder_only", "max_train_steps", "v_parameterization", "lr_scheduler_args", *NETWORK_OPTIONS,
    "reg_data_dir", "conditioning_data_dir", "in_json", "use_8bit_adam",
    "use_lion_optimizer", *(f"metadata_{name}" for name in METADATA),
})  # fmt: skip
# true of every run here, or without a meaning here, at any value
ACCEPTED = frozenset({
    # how attention is computed, how data is loaded, where models lie
    "xformers", "sdpa", "mem_eff_attn", "max_data_loader_n_workers", "persistent_data_loader_workers",
    "vae_batch_size", "lowram", "highvram", "no_half_vae", "disable_mmap_load_safetensors", "tokenizer_cache_dir",
    "skip_cache_check", "ddp_timeout", "ddp_gradient_as_bucket_view", "ddp_static_graph",
    # an untrained text encoder's states are always kept; a mask always weighs the loss; the base says what it is
    "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "masked_loss", "v2",
    # the state is always kept, only the newest, and replaced when the next one is whole
    "save_state", "save_state_on_train_end", "save_last_n_epochs_state", "save_last_n_steps_state",
    # a run's curves and lines are named by it
    "log_prefix", "log_tracker_name", "wandb_run_name", "log_config", "console_log_level", "console_log_file",
    "console_log_simple",
    # parts of deepspeed, which is refused
    "zero_stage", "offload_optimizer_device", "offload_optimizer_nvme_path", "offload_param_device",
    "offload_param_nvme_path", "zero3_init_flag", "zero3_save_16bit_model", "fp16_master_weights_and_gradients",
})  # fmt: skip
_UPLOAD = "leave it out, and upload the files when they are chosen"
_WHERE = "leave it out; `loratools train --resume` finds by itself where the run was"
_KEPT_IN = "leave it out; the base is kept in the type of mixed_precision, and the LoRA in float32"
# accepted at these values and where they are switched off, else refused with what to do instead
RESTRICTED: dict[str, tuple[tuple[object, ...], str]] = {
    "network_module": (
        ("networks.lora", LYCORIS),
        "leave it out for LoRA and LoCon; for LoHa and LoKr it is lycoris.kohya",
    ),
    "save_model_as": (("safetensors",), "leave it out; files are safetensors"),
    "no_metadata": ((), "leave it out; a file says how it was made"),
    "save_n_epoch_ratio": ((), "use save_every_n_epochs"),
    "save_last_n_steps": ((), "leave it out; save_last_n_epochs counts the files of steps as well"),
    "resume": ((), "leave it out; `loratools train --resume` finds the run's own state by its name"),
    "initial_epoch": ((), _WHERE),
    "initial_step": ((), _WHERE),
    "skip_until_initial_step": ((), _WHERE),
    "max_validation_steps": ((), "leave it out; validation_images of a YAML config bounds what is measured"),
    "full_fp16": ((), _KEPT_IN),
    "full_bf16": ((), _KEPT_IN),
    "fp8_base": ((), _KEPT_IN),
    "fp8_base_unet": ((), _KEPT_IN),
    "cpu_offload_checkpointing": ((), "use gradient_checkpointing"),
    "fused_backward_pass": ((), "leave it out, or use optimizer_type = AdamW8bit where memory is short"),
    "dynamo_backend": (("inductor", "INDUCTOR", "no", "NO"), "leave it out; torch_compile uses inductor"),
    "lr_scheduler_type": ((), "use lr_scheduler"),
    "face_crop_aug_range": ((), "crop the faces into a folder of their own and give it its own repeats"),
    "cache_info": ((), "leave it out; images are read anew for every run, so that no edit is missed"),
    "dataset_class": ((), "leave it out, and name folders of images"),
    "debug_dataset": ((), "leave it out; a dry run prints what the images come to"),
    "config_file": ((), "name that file as a CONFIG too; several are a queue"),
    "output_config": ((), "leave it out; the log's first line holds every setting"),
    "log_with": (("tensorboard",), "leave it out; losses are in NAME.jsonl"),
    "log_tracker_config": ((), "leave it out; losses are in NAME.jsonl"),
    "wandb_api_key": ((), "leave it out; losses are in NAME.jsonl"),
    "huggingface_repo_id": ((), _UPLOAD),
    "huggingface_repo_type": ((), _UPLOAD),
    "huggingface_path_in_repo": ((), _UPLOAD),
    "huggingface_token": ((), _UPLOAD),
    "huggingface_repo_visibility": ((), _UPLOAD),
    "save_state_to_huggingface": ((), _UPLOAD),
    "resume_from_huggingface": ((), _UPLOAD),
    "async_upload": ((), _UPLOAD),
    "deepspeed": ((), "start several processes with `accelerate launch -m loratools train ...`"),
    "metadata_thumbnail": ((), "leave it out; a thumbnail lies beside the file as NAME.png"),
}
# keys of the files that kohya_ss' and Akegarasu's GUIs write, which sd-scripts' trainers of LoRAs do not have
GUI_ALIASES = {  # -> sd-scripts' own
    "lr_restart_cycles": "lr_scheduler_num_cycles",
    "lr": "learning_rate",
    "batch_size": "train_batch_size",
}
# Akegarasu's GUI has these arguments of LyCORIS among its options -> their names in network_args
GUI_LYCORIS = {
    "lycoris_algo": "algo",
    "lokr_factor": "factor",
    "conv_dim": "conv_dim",
    "conv_alpha": "conv_alpha",
    "dropout": "dropout",
    "train_norm": "train_norm",
    "dora_wd": "dora_wd",
}
GUI_OPTIONS = {"stop_text_encoder_training": "stop_text_encoder_training"}  # -> our setting
GUI_ONLY = frozenset(
    {
        "epoch",
        "noise_offset_type",
        "lowvram",
        "model_train_type",
        "loraplus_lr_ratio",
        "loraplus_unet_lr_ratio",
        "loraplus_text_encoder_lr_ratio",
    }
)
DEFAULTS = {  # sd-scripts' own, of options that a file leaves out
    "dim": 4,
    "alpha": 1,
    "learning_rate": 2e-6,
    "lr_scheduler": "constant",
    "shuffle_tags": False,
    **DATASET_DEFAULTS,
    "resolution": 512,
    "cache_latents": False,
}
