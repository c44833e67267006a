"""The paper's explanations, each compared with what was measured."""
