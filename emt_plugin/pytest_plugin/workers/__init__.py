"""Several workers on one machine: who runs what, on which device, with how much memory."""

TESTED_XDIST = "3.8."
