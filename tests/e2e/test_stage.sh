#!/bin/bash
# TIMEOUT 300
# data.stage_dir: train and predict read copies of their stores, the same on 1 and 2 ranks; a full disk, a damaged store.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "${EARSHOT_SOURCE:?}/tests/e2e/toy.sh" || exit 1
toy_stores
toy_configs
train=(train --config pre.yaml --set train.max_steps=2)
staged=(--set data.stage_dir=local)
ok 1 "${train[@]}"
[ $failures = 0 ] || done_testing
ok 1 "${train[@]}" --check "${staged[@]}"
[ ! -e local ] || fail "--check copies"
ok 2 "${train[@]}" "${staged[@]}" --set run.dir=runs/staged
copy=local/as-strong-$(digest as-strong.h5).h5
[ "$(ls local)" = "$(basename "$copy")" ] && grep -q 'stage as-strong.h5: copied' all_err || fail "$(ls -l local): no copy"
same_runs runs/pre runs/staged
touch -d 2020-01-01 "$copy"
ok 1 "${train[@]}" "${staged[@]}" --set run.dir=runs/again
[ "$(date -r "$copy" +%Y)" = 2020 ] || fail "copied twice"
same_runs runs/pre runs/again
predict=(predict --checkpoint runs/pre/checkpoint-last.h5 --store as-strong.h5 --set predict.block=4)
ok 1 "${predict[@]}" --out p.h5
ok 2 "${predict[@]}" --out q.h5 "${staged[@]}"
[ "$(digest p.h5)" = "$(digest q.h5)" ] || fail "other predictions from the copy"

# one bit of a sample of the copy: made again; of the store: refused
flip() { # the byte in the middle of the samples
    "$python" -c "
import h5py
with h5py.File('$1') as f: at = f['audio/pcm'].id.get_offset() + 4001
with open('$1', 'r+b') as f:
    f.seek(at); b = f.read(1)[0]; f.seek(at); f.write(bytes([b ^ 1]))"
}
flip "$copy"
ok 2 "${predict[@]}" --out r.h5 "${staged[@]}"
grep -q 'digest: got .*copied again' all_err && [ "$(digest p.h5)" = "$(digest r.h5)" ] || fail "a damaged copy"
rm "$copy"
flip as-strong.h5
go 2 "${train[@]}" "${staged[@]}" --set run.dir=runs/damaged
[ $code = 65 ] && errors | grep -q 'copy of as-strong.h5: digest: got' && [ -z "$(ls local)" ] || fail "a damaged store: code $code"
flip as-strong.h5
small=$work/small
mkdir "$small"
if mount -t tmpfs -o size=1m tmpfs "$small" 2>/dev/null; then
    trap 'umount "$small"; toy_end' EXIT
    go 2 "${train[@]}" --set data.stage_dir=small --set run.dir=runs/full
    [ $code = 74 ] && errors | grep -q 'data.stage_dir: small/.*No space left' && [ -z "$(ls small)" ] || fail "a full disk: code $code"
    umount "$small"
    trap toy_end EXIT
else
    echo "skipped: full disk: a small file system cannot be mounted here"
fi
done_testing
