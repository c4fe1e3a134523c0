"""Does preparing a data set help? The same drawings raw and prepared, trained alike on the pocket base and judged."""
