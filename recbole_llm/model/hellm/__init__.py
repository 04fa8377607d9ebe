"""HeLLM (arXiv:2504.10541): graph pre-training, graph prefix, and the fine-tuned language model."""
