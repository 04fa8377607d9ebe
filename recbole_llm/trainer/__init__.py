"""What RecBole's Trainer lacks: safe checkpoints, exact resuming, staged training, fast ranking."""
