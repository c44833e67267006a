"""How much of a pretrained network should be fine-tuned? A study that answers it fairly."""
