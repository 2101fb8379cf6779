# shellcheck shell=bash disable=SC2034 # read by submit.sh and job.sbatch, after default.sh
# A site with Slurm's own launcher and PMIx, pre-emptable nodes of 32 cores.
partition=preempt
threads=32
launcher=srun
launcher_options=(--cpu-bind=cores)
signal_s=300
