"""What every language-model recommender shares: backbone, decoder, LoRA, prompt files."""
