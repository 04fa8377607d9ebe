"""Settings of each model in tests."""

from typing import Any

#: Settings that make a model small enough for a test; a new model may need none.
SMALL: dict[str, dict[str, Any]] = {
    "LightGCN": {"embedding_size": 16},
    "SASRecCausal": {"hidden_size": 16, "inner_size": 32, "hidden_dropout_prob": 0.2},
    "HeLLMPretrain": {"embedding_size": 16, "eval_step": 1},
    "VBPR": {"embedding_size": 16},
    "FREEDOM": {"embedding_size": 16},
    "LATTICE": {"embedding_size": 16},
    "BM3": {"embedding_size": 16},
    "MGCN": {"embedding_size": 16},
    "LGMRec": {"embedding_size": 16},
    "SRGFormer": {"embedding_size": 16},
    "MLLMRec": {"embedding_size": 16},
    "HeLLM": {
        "prompt": "hellm_short",
        "pool_dim": 4,
        "prefix_mlp_size": 8,
        "n_prefix": 2,
        "lora_r": 2,
        "graph_stage": {"embedding_size": 16, "epochs": 1, "eval_step": 1},
        "sequence_stage": {"hidden_size": 16, "inner_size": 32, "epochs": 1},
    },
    "GALRec": {
        "prompts": "galrec_short",
        "MAX_ITEM_LIST_LENGTH": 6,
        "prefixes_per_user": 3,
        "n_first_order": 3,
        "n_second_order": 2,
        "queue_size": 32,
        "momentum": 0.9,
        "gradient_accumulation_steps": 1,
        "lora_r": 2,
        "external_stage": {"embedding_size": 16, "epochs": 1},
    },
}

#: Settings with which a model learns in a second or two; a new model starts with its defaults.
LEARN: dict[str, dict[str, Any]] = {
    "LightGCN": {"epochs": 30, "learning_rate": 0.02},
    "SASRecCausal": {"epochs": 40, "learning_rate": 0.005},
    "HeLLMPretrain": {"epochs": 30, "learning_rate": 0.02},
    "VBPR": {"epochs": 30, "learning_rate": 0.02},
    "FREEDOM": {"epochs": 30, "learning_rate": 0.02},
    "LATTICE": {"epochs": 30, "learning_rate": 0.02},
    "BM3": {"epochs": 30, "learning_rate": 0.02},
    "MGCN": {"epochs": 30, "learning_rate": 0.02},
    "LGMRec": {"epochs": 30, "learning_rate": 0.02},
    "SRGFormer": {"epochs": 30, "learning_rate": 0.02},
    "MLLMRec": {"epochs": 60, "learning_rate": 0.01},
    "HeLLM": {
        "epochs": 6,
        "learning_rate": 0.01,
        "warmup_epochs": 0.2,
        "head_init": "items",
        "graph_stage": {"embedding_size": 16, "epochs": 30, "learning_rate": 0.02},
        "sequence_stage": {
            "hidden_size": 16,
            "inner_size": 32,
            "hidden_dropout_prob": 0.2,
            "epochs": 40,
            "learning_rate": 0.005,
        },
    },
    "GALRec": {
        "epochs": 2,
        "learning_rate": 0.01,
        "train_batch_size": 32,
        "prefixes_per_user": 5,
        "gal_rows": 8,
        "external_stage": {"embedding_size": 16, "epochs": 30, "learning_rate": 0.02},
    },
}
