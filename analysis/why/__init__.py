"""The paper's reasons, each held against what was measured."""
