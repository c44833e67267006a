"""All commands under one name: `finetune-study COMMAND ...` is `python -m study.COMMAND ...`, from any folder.

finetune-study sweep quickstart
finetune-study predict results/quickstart:mini_weeds my_photographs --csv predictions.csv
"""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

from study.console.command import quiet
from study.console.text import shown

COMMANDS = {
    "sweep": ("study.sweep", "a whole study: search, confirm, open the test set once, report"),
    "deliver": ("study.deliver", "the network to take away, trained as long as it pays on all images"),
    "predict": ("study.predict", "classify images with the network a study found"),
    "export": ("study.export", "write it for timm, ONNX Runtime or torch.export"),
    "demo": ("study.demo", "try it on one image in the browser"),
    "datasets": ("study.datasets.__main__", "check your images before anything is trained"),
    "screen": ("study.screen.__main__", "which pretrained network suits your images, by a quick probe"),
    "report": ("analysis.report", "a study's page and tables"),
    "compare": ("analysis.compare", "two studies, question by question"),
    "judge": ("analysis.judge.__main__", "two sides' predictions, made anywhere, against labels"),
    "label": ("study.label.__main__", "which new pictures to label, so that an undecided study is decided"),
    "measure": ("study.measure.__main__", "measure more on the networks that a study kept"),
    "replay": ("study.replay", "train a recorded trial again and compare the numbers"),
    "tracking": ("study.tracking.__main__", "send studies to MLflow, fetch them, export them to Optuna"),
    "trial": ("study.trial", "one training of one configuration"),
    "preflight": ("cluster.preflight", "is every node of a Ray cluster fit for a study?"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names with the rest, loading no other; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        return int(import_module(COMMANDS[words[0]][0]).main(words[1:]))
    return about(words)


@quiet("")
def about(argv: Sequence[str] | None = None) -> int:
    """List the commands, print the version, or refuse an unknown command."""
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"finetune-study {metadata.version('finetune-study')}")
        return 0
    near = difflib.get_close_matches(name, COMMANDS, 1)
    way_out = f"did you mean {near[0]}?" if near else f"these are: {', '.join(COMMANDS)}."
    print(f"error: {shown(name) or 'an empty word'} is no command; {way_out} finetune-study --help says what each does.", file=sys.stderr)
    return 2


def usage() -> str:
    """Return the usage text: every command with its purpose, one line each."""
    lines = [f"  {name:<10} {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(["usage: finetune-study COMMAND [options]; finetune-study COMMAND --help lists them", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
