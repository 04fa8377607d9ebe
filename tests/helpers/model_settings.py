"""Settings of each model in tests."""

from typing import Any

from recbole_llm.yaml_io import properties_dir, read_yaml

#: Settings that make a model small enough for a test, where ``embedding_size: 16`` does not.
SMALL: dict[str, dict[str, Any]] = {
    "SASRecCausal": {"hidden_size": 16, "inner_size": 32, "hidden_dropout_prob": 0.2},
    "HeLLMPretrain": {"embedding_size": 16, "eval_step": 1},
    "HeLLM": {
        "prompt": "hellm_short",
        "pool_dim": 4,
        "prefix_mlp_size": 8,
        "n_prefix": 2,
        "lora_r": 2,
        "graph_stage": {"embedding_size": 16, "epochs": 1, "eval_step": 1},
        "sequence_stage": {"hidden_size": 16, "inner_size": 32, "epochs": 1},
    },
    "E4SRec": {
        "prompt": "hellm_short",
        "lora_r": 2,
        "external_stage": {"hidden_size": 16, "inner_size": 32, "epochs": 1},
    },
    "LlamaRec": {
        "n_candidates": 5,
        "n_history": 3,
        "max_title_tokens": 4,
        "lora_r": 2,
        "valid_metric": "NDCG@5",
        "retriever_stage": {"hidden_size": 16, "inner_size": 32, "epochs": 1},
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

#: Settings with which a model learns in a second or two, where it has none of its own below.
QUICK: dict[str, Any] = {"epochs": 30, "learning_rate": 0.02}

#: Settings of models that need others than ``QUICK`` to learn.
LEARN: dict[str, dict[str, Any]] = {
    "SASRecCausal": {"epochs": 40, "learning_rate": 0.005},
    "MLLMRec": {"epochs": 60, "learning_rate": 0.01},
    "HeLLM": {
        "epochs": 6,
        "learning_rate": 0.01,
        "warmup_epochs": 0.2,
        "graph_stage": {"embedding_size": 16, "epochs": 30, "learning_rate": 0.02},
        "sequence_stage": {
            "hidden_size": 16,
            "inner_size": 32,
            "hidden_dropout_prob": 0.2,
            "epochs": 40,
            "learning_rate": 0.005,
        },
    },
    "E4SRec": {
        "epochs": 6,
        "learning_rate": 0.01,
        "external_stage": {
            "hidden_size": 16,
            "inner_size": 32,
            "hidden_dropout_prob": 0.2,
            "epochs": 40,
            "learning_rate": 0.005,
        },
    },
    "LlamaRec": {
        "epochs": 2,
        "learning_rate": 0.01,
        "retriever_stage": {
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


def small_settings(model: str) -> dict[str, Any]:
    """Return the settings that make a model small; none for RecBole's models."""
    path = properties_dir() / "model" / f"{model}.yaml"
    has_width = path.exists() and "embedding_size" in read_yaml(path)
    return SMALL.get(model, {"embedding_size": 16} if has_width else {})
