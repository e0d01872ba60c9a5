"""The comparisons of benchmarks/speed.py, one module for each topic; a peer is imported only by its comparisons."""
