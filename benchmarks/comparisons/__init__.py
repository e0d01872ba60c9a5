"""What benchmarks/speed.py compares, one topic a module; peers are imported only by what is compared with them."""
