"""What is done with a finished network: pictures read for it, tables written, other formats made, neighbours found."""

FORMATS = ("timm", "onnx", "torch_export")
"""Of `formats`, which takes seconds to load."""
