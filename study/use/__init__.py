"""What is done with a finished network: pictures read for it, tables written, other formats made, neighbours found."""

FORMATS = {"timm": "timm", "onnx": "model.onnx", "torch_export": "model.pt2"}
"""Of `formats`, which takes seconds to load, with what each writes: a folder, or a file."""
