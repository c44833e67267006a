"""Getting onto a cluster, and finding out beforehand what is wrong with it."""
