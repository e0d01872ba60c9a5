"""What other code can use without any framework: pretraining, probes, fine-tuning, anomaly scores."""
