#!/usr/bin/env bash
# LABEL unit TIMEOUT 60
# submit.sh without a Slurm: its printed calls, the calls it really makes (to a stand-in for sbatch), its refusals.
# `test_dry_run.sh --update` rewrites expected_dry_run.txt.
set -euo pipefail
source=${EARSHOT_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
unset EARSHOT_WORK EARSHOT_DESED EARSHOT_MAESTRO EARSHOT_PROGRAM
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
ln -s "$source/slurm" "$tmp/slurm"
cd "$tmp"
fail() { echo "FAILED: $*"; exit 1; }

# Configuration folders as they are named in the repository: flat (toy) and nested (published). Only their names matter.
mkdir -p configs/toy configs/{data,pretrain,it1,it2} bin
touch configs/toy/data-{as-strong,desed,maestro}.yaml configs/data/{as-strong,desed,maestro}.yaml
touch configs/toy/{pretrain,it{1,2}-stage{1,2}}-{atst,fpasst,beats}.yaml configs/{pretrain/,it{1,2}/stage{1,2}-}{atst,fpasst,beats}.yaml

# 1. The toy pipeline as it is kept in the repository
slurm/submit.sh --dry-run --config-dir configs/toy >toy.txt
if [ "${1-}" = --update ]; then cp toy.txt "$source/tests/slurm/expected_dry_run.txt"; fi
diff -u "$source/tests/slurm/expected_dry_run.txt" toy.txt || fail "the dry run is not as expected"
slurm/submit.sh --dry-run --config-dir configs/toy | cmp - toy.txt || fail "two dry runs differ"
[ ! -e build ] || fail "a dry run wrote something"

# 2. What is printed is what is done: a stand-in for sbatch logs its arguments and hands out job numbers
cat >bin/sbatch <<'SBATCH'
#!/bin/bash
n=$(($(cat "$SBATCH_LOG.n" 2>/dev/null || echo 100) + 1))
[ "$n" != "${SBATCH_FAIL_AT-}" ] || exit 1
echo $n >"$SBATCH_LOG.n"
printf '<%s>' "$@" >>"$SBATCH_LOG"
echo >>"$SBATCH_LOG"
echo "$n;cluster"
SBATCH
chmod +x bin/sbatch
export PATH=$tmp/bin:$PATH
models=(--only "atst,fpasst,beats" --work w/x)
slurm/submit.sh --dry-run "${models[@]}" | sed 's/)$/ | cut -d";" -f1)/' >printed.sh
SBATCH_LOG=$tmp/printed bash -euo pipefail printed.sh
SBATCH_LOG=$tmp/made slurm/submit.sh "${models[@]}" >out.txt
cmp printed made || fail "the printed calls are not those that are made"
[ "$(wc -l <made)" = 10 ] || fail "want 10 phases"
[ "$(sed -n 2p out.txt)" = "pretrain: job 102" ] || fail "what submit.sh says"
[ -d w/x/slurm ] || fail "no folder for the logs"
call() { sed -n "/<--job-name=$1>/p" made; }
has() { call "$1" | grep -qF -- "$2" || fail "$1: no $2 in: $(call "$1")"; }
has pretrain '<--dependency=afterok:101>'
has it1-stage2 '<--array=0-2>'
has it1-stage2 '<--dependency=aftercorr:103>'
has it1-stage2 '<atst fpasst beats><train --config configs/it1/stage2-{item}.yaml --set train.leaves=8 --set run.dir=w/x/runs/it1-stage2-{item}>'
has it1-stage1 '<predict --checkpoint w/x/runs/it1-stage1-{item}/checkpoint-best.h5 --store w/x/stores/desed.h5 --subset validation --out'
has it1-ensemble '<--dependency=afterok:105>'
has it1-ensemble '<ensemble --out w/x/pseudo/desed.h5 w/x/pred/it1-stage2-atst-desed.h5 w/x/pred/it1-stage2-fpasst-desed.h5 w/x/pred/it1-stage2-beats-desed.h5>'
call it1-ensemble | grep -q -- --array && fail "it1-ensemble is one job"

# 3. --from: the phases before it are done, and nobody waits for them
SBATCH_LOG=$tmp/from slurm/submit.sh --from it2-stage1 >/dev/null
[ "$(sed 's/^.*job-name=\([^>]*\)>.*$/\1/' from | tr '\n' ' ')" = "it2-stage1 it2-stage2 it2-predict evaluate " ] || fail "--from: phases"
if head -1 from | grep -q dependency; then fail "--from: the first phase waits for nobody"; fi
sed -n 2p from | grep -qF '<--dependency=aftercorr:101>' || fail "--from: the second waits for the first"

SBATCH_LOG=$tmp/to slurm/submit.sh --from it1-ensemble --to it2-stage1 >/dev/null
[ "$(sed 's/^.*job-name=\([^>]*\)>.*$/\1/' to | tr '\n' ' ')" = "it1-ensemble it2-stage1 " ] || fail "--to: phases"

SBATCH_LOG=$tmp/one slurm/submit.sh --iterations 1 --only beats --work w/y >/dev/null
[ "$(sed 's/^.*job-name=\([^>]*\)>.*$/\1/' one | tr '\n' ' ')" = "prepare pretrain it1-stage1 it1-stage2 it1-predict it1-ensemble " ] || fail "--iterations 1: phases"
grep -q 'it1-ensemble.*w/y/pred/it1-stage2-beats-desed.h5>' one || fail "--only beats: $(tail -n 1 one)"
if grep -q atst one; then fail "--only beats: another model"; fi
[ "$(cut -f 2 w/y/slurm/jobs.tsv | tr '\n' ' ')" = "101 102 103 104 105 106 " ] || fail "the list of jobs"

# 4. The site's settings
cat >site.sh <<'SITE'
partition=fast account=sound threads=3 ranks=2 nodes_max=2 models="fpasst beats" launcher=mpiexec signal=USR2 signal_s=120
sbatch_options=(--qos=long "--comment=two words")
desed=/data/desed
SITE
slurm/submit.sh --dry-run --site site.sh >site.txt
line() { grep "^$1=" site.txt; }
for want in --partition=fast --account=sound --cpus-per-task=3 --ntasks-per-node=2 --qos=long "'--comment=two words'" \
    --signal=B:USR2@120 'slurm ./site.sh build'; do
    line prepare | grep -q -- "$want" || fail "site: no $want"
done
line pretrain | grep -q -- '--nodes=2 --ntasks-per-node=1 .* --array=0-1' || fail "site: nodes_max, models"
line it2_predict | grep -qF -- '--ground-truth /data/desed/metadata/validation/validation.tsv' || fail "site: desed"

# 5. Refusals: exit 64 (74 when sbatch fails), one line, nothing submitted
refused() { # refused CODE PATTERN ARGUMENT...
    local code=$1 pattern=$2 rc=0
    shift 2
    rm -f log log.n
    SBATCH_LOG=$tmp/log slurm/submit.sh "$@" >out 2>err || rc=$?
    [ $rc = "$code" ] || fail "$*: exit code $rc, want $code"
    [ "$(wc -l <err)" = 1 ] || fail "$*: want one line, got: $(cat err)"
    grep -q -- "$pattern" err || fail "$*: want '$pattern', got: $(cat err)"
    [ ! -e log ] || [ "$code" = 74 ] || fail "$*: submitted something"
}
refused 64 'unknown option' --frobnicate
refused 64 'wants a value' --from
refused 64 'wants a value' --only ''
refused 64 'a blank' --work 'my work'
refused 64 'no phase it3' --from it3
refused 64 'no phase it3' --to it3
refused 64 'no phase it2-predict' --from it2-predict --to it2-stage1
refused 64 'want 1 or 2' --iterations 3
# shellcheck disable=SC2016
refused 64 'a shell would read' --work '$(reboot)x'
refused 64 'a shell would read' --only 'atst;reboot'
refused 64 'no folder' --config-dir nowhere
refused 64 'cannot read' --site nowhere.sh
refused 64 'cannot read' --graph nowhere.tsv
refused 64 'pretrain: no pretrain/{atst,vit}.yaml' --only atst,vit
echo 'launcher=ssh' >bad.sh
refused 64 'want srun or mpiexec' --site bad.sh
echo 'signal=KILL' >bad.sh
refused 64 'want USR1, USR2 or TERM' --site bad.sh
bad_graph() { # bad_graph PATTERN LINES: fields are separated by commas there, need names by +
    sed 's/#.*//; s/,/\t/g; s/+/,/g' >bad.tsv
    refused 64 "$1" --graph bad.tsv
}
bad_graph 'b needs c' <<<$'a,-,-,-,1,1,1,x\nb,-,a+c,afterok,1,1,1,x\nc,-,-,-,1,1,1,x'
bad_graph 'aftercorr wants the array' <<<$'list,l,x y\na,l,-,-,1,1,1,x\nb,-,a,aftercorr,1,1,1,x'
bad_graph 'no list' <<<'a,m,-,-,1,1,1,x'
bad_graph 'want numbers' <<<'a,-,-,-,1,0,1,x'
bad_graph 'bad dependency' <<<$'a,-,-,-,1,1,1,x\nb,-,a,sometime,1,1,1,x'
bad_graph '8 columns' <<<'a,-,-,-,1,1,1'
SBATCH_FAIL_AT=103 refused 74 'sbatch failed for it1-stage1; submitted before it: .*101' --only atst

# 6. The configurations of this checkout, as far as they are there
for folder in toy .; do
    [ -e "$source/configs/$folder/it1-stage1-atst.yaml" ] || [ -e "$source/configs/$folder/it1/stage1-atst.yaml" ] || continue
    slurm/submit.sh --dry-run --config-dir "$source/configs/$folder" >/dev/null || fail "configs/$folder: not complete"
done
echo ok
