"""Pretrained networks ranked on one's own images by a linear probe of their frozen features, before anything is tuned."""
