"""Speed and memory beside other implementations ("peers"), as ratios within one run."""
