"""The ranking of pretrained networks on one's own images by a linear probe of their frozen features, before any tuning."""
