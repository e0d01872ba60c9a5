"""What pretraining and fine-tuning are made of."""
