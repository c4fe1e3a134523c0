"""Is the epoch that ``loratools epochs --base`` recommends the best one? On the pocket base a judge knows."""
