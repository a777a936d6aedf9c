#!/bin/bash
# Spreads the gate over an array of jobs, joins their parts in one more, waits for it and ends with its exit code:
#
#   examples/slurm/gate.sh 8 --emt-shard-by images --emt-model ./runs/my-llava
#
# What the cluster wants beside (--account, --partition) goes into SBATCH_ACCOUNT and SBATCH_PARTITION, or into the two files.
set -euo pipefail
here=$(dirname "$0")
count=$1
shift
# With several clusters sbatch prints "job;cluster".
run=$(sbatch --parsable --array="0-$((count - 1))" "$here/part.sbatch" "$@" | cut -d';' -f1)
# afterany: a part that was killed must make the gate incomplete, and not leave it waiting for ever.
exec sbatch --wait --dependency="afterany:$run" "$here/merge.sbatch" "$run"
