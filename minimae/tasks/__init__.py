"""Each task is a recipe type and a step for the loop."""
