#!/usr/bin/env bash
# A recipe on nodes of Slurm: `sbatch deploy/slurm.sh --config my.yaml workspace=/shared/xlst cluster.workers=8 ...`.
# Ray is started on the nodes of the allocation and ends with it. The workspace must be on a file system that all nodes
# share, or a bucket. Set the resources; the rest needs no change.
#SBATCH --job-name=xlst
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
# --signal: five minutes before the end (or a preemption) this script gets SIGTERM, and passes it on to the driver:
# training writes a checkpoint, the driver ends with 143, and the job is queued again and goes on from there.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source .venv/bin/activate

RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN  # other users of these nodes cannot join; srun hands both on
head_address=$(hostname --ip-address | cut -d' ' -f1)
port=$((20000 + 4 * (SLURM_JOB_ID % 5000)))  # and the next two: jobs on one node do not meet
export RAY_ADDRESS=$head_address:$port

srun --overlap --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" \
    ray start --head --node-ip-address="$head_address" --port="$port" --block \
    --dashboard-agent-listen-port=$((port + 1)) --ray-client-server-port=$((port + 2)) &
until ray health-check --address "$RAY_ADDRESS" 2>/dev/null; do sleep 2; done
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$SLURMD_NODENAME" ray start --address="$RAY_ADDRESS" --block \
        --dashboard-agent-listen-port=$((port + 1)) &
fi

python jobs/run.py "$@" &
driver=$!
trap 'kill -TERM $driver' TERM
status=0
wait $driver || status=$?
while kill -0 $driver 2>/dev/null; do  # the signal ends `wait`, not the driver
    status=0
    wait $driver || status=$?
done
if ((status == 143)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
