# shellcheck shell=bash disable=SC2034 # the variables are read by submit.sh and job.sbatch
# Settings of a site. Both scripts read this file first, then the one named with --site, which changes what it wants to.
# Given: $here (this checkout's slurm folder), $work (--work).

# ---- what sbatch is told
partition=            # empty: the cluster's default
account=
sbatch_options=()     # for example (--qos=long --mem=0 --exclusive)
nodes_max=            # at most so many nodes a job; empty: as in graph.tsv
ranks=                # ranks per node of phases that have more than one in graph.tsv; empty: as there
threads=8             # cores of a rank; part of a run's configuration digest, so keep it for the whole run
signal=USR1           # what asks a job to stop before the time limit and at pre-emption: USR1, USR2 or TERM ...
signal_s=300          # ... so many seconds before the time limit; 0: no warning, the TERM at the limit must do
models=               # default of --only, separated by blanks; empty: as in graph.tsv

# ---- what a job does
modules=()            # for example (gcc/12 openmpi/4.1 hdf5/1.10-mpi)
launcher=srun         # srun (Slurm with PMIx) or mpiexec (Open MPI's own)
launcher_options=()   # for example (--cpu-bind=cores), (--map-by socket:PE=8)
max_restarts=20       # give up after so many starts in a row without progress (no newer checkpoint or result)
program=${EARSHOT_PROGRAM:-$here/../build/release/earshot}

# ---- where the corpora are, for the ground truth of `evaluate` (the demo's places by default)
desed=${EARSHOT_DESED:-$work/demo/desed}
maestro=${EARSHOT_MAESTRO:-$work/demo/maestro}

# ---- bits: the same kernels wherever a job is restarted. Every x86-64 server has AVX2; on a cluster where all nodes have
# AVX-512 say SkylakeX and AVX512_CORE (or AVX512_CORE_BF16): about twice as fast, other last digits.
# Not for jobs/pipeline.sh, whose jobs all run on this machine.
if [ "${name-}" != pipeline ]; then
    export OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-Haswell}
    export ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX2}
    export OMP_PROC_BIND=${OMP_PROC_BIND:-false} # true only where the launcher binds ranks to cores of their own
fi
