"""Getting onto a cluster, and finding out beforehand what is wrong with it."""

from study import early as early  # it begins as it is imported
