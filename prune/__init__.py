"""Graph in, graph with fewer weights out: masks, scores, schedules, rewiring."""
