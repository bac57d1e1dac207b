"""One loop for every task: schedule, optimisers, checkpoints, logging."""
