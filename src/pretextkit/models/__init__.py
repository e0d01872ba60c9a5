"""Built-in networks: backbones and heads."""
