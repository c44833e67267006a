"""Connection to a cluster, and checks beforehand of what is wrong with it."""

from study import early as early  # it begins as it is imported
