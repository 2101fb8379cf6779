# shellcheck shell=bash disable=SC2034 # read by submit.sh and job.sbatch, after default.sh
# A site whose Slurm has no PMIx: Open MPI's own launcher, one rank a socket of 16 cores, modules. Copy it and change it:
#   slurm/submit.sh --site slurm/site/mine.sh --work /scratch/$USER/earshot
partition=cpu
account=sound
sbatch_options=(--exclusive --mem=0)
threads=16
nodes_max=8
modules=(gcc/12 openmpi/4.1 hdf5/1.10-mpi)
launcher=mpiexec
launcher_options=(--map-by socket:PE=16)
signal=USR2           # here USR1 means something else
signal_s=600
desed=/data/desed
maestro=/data/maestro
export OPENBLAS_CORETYPE=SkylakeX ONEDNN_MAX_CPU_ISA=AVX512_CORE OMP_PROC_BIND=true
