"""Uses of a finished network: pictures read for it, tables written, other formats made, neighbours found."""

FORMATS = {"timm": "timm", "onnx": "model.onnx", "torch_export": "model.pt2"}
"""Names of the formats in `formats`, which takes seconds to load, with the folder or file that each writes."""
