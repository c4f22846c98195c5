"""CardioEmbed, reproduced: pooling, loss, LoRA set-up and metrics, and the glue between notebooks."""

__version__ = "0.1.0"
