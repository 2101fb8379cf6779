/* The table of configuration keys: the only place where defaults, ranges and docs live. Order here is the
 * order of written files and of the digest; keys of a section stand together. Defaults are those of the
 * public recipe (the settings of CPJKU/cpjku_dcase24 for stage 1 and, where only stage 2 has the key, stage 2
 * of iteration 1; PretrainedSED for pretrain) unless the doc says otherwise. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_impl.h"

#define ROW(t, k, def, text, ...)                                                                            \
    { .type = ES_CONFIG_##t, .name = k, .preset = def, .doc = text, .since = "0.1.0", __VA_ARGS__ }
#define ANY .range = NULL
#define STAGES .only = "phase=stage1|stage2"
#define PRETRAIN .only = "phase=pretrain"
#define BEATS .only = "model.arch=beats"
#define OUTSIDE .outside_digest = true

/* A subset of `prepare`: where its audio and its tables are in the real corpora's layout, relative to
 * prepare.root. */
#define SUBSET(s, audio, tsv, durations)                                                                     \
    ROW(PATH, "prepare." s "_audio", audio,                                                                  \
        "audio of the subset " s ": a folder, or an .hdf of mp3s; under prepare.root", ANY),                 \
        ROW(PATH, "prepare." s "_tsv", tsv, "labels of the subset " s "; empty: none; under prepare.root",   \
            ANY),                                                                                            \
        ROW(PATH, "prepare." s "_durations", durations,                                                      \
            "durations of the subset " s "; empty: from the audio; under prepare.root", ANY)

#define EXCLUDE(s)                                                                                           \
    ROW(PATH, "prepare." s "_exclude", "",                                                                   \
        "exclusion list of the subset " s                                                                    \
        ": table with a column filename; training clips to leave out; empty: none; under prepare.root",      \
        ANY)

#define RECORDINGS(s)                                                                                        \
    ROW(PATH, "prepare." s "_recordings", "",                                                                \
        "recordings of the subset " s ", one a line below a header, where its labels are a folder of "       \
        "annotations; empty: all of the folder",                                                             \
        ANY)

static const struct es_config_key table[] = {
    ROW(CHOICE, "phase", "stage1", "what `earshot train` trains", .choices = "pretrain|stage1|stage2"),
    ROW(INT, "threads_per_rank", "0",
        "OpenMP and BLAS threads of a rank; 0: the cores it may use over the ranks on them, at most "
        "OMP_NUM_THREADS",
        .range = "0..1024"),

    ROW(PATH, "run.dir", "", "where a run writes its checkpoints, metrics, log and resolved configuration",
        OUTSIDE),
    ROW(INT, "run.seed", "42", "seed of all random numbers", .range = "0..9007199254740992"),
    ROW(CHOICE, "run.log_level", "info", "least severe lines to log", .choices = "error|warn|info|debug",
        OUTSIDE),
    ROW(DOUBLE, "watchdog.timeout_s", "600",
        "end the job with 74 when a rank makes no progress for this long; 0: never", .range = ">=0",
        .unit = "s", OUTSIDE),

    ROW(CHOICE, "model.arch", "atst", "the transformer; none: the CRNN alone (stages 1 and 2)",
        .choices = "atst|fpasst|beats|none"),
    ROW(INT, "model.dim", "768", "width of the transformer, a multiple of model.heads", .range = "1..4096"),
    ROW(INT, "model.depth", "12", "transformer blocks", .range = "1..64"),
    ROW(INT, "model.heads", "12", "attention heads", .range = "1..64"),
    ROW(INT, "model.mlp", "3072", "hidden width of a block's MLP", .range = "1..16384"),
    ROW(BOOL, "model.wrapper", "true",
        "the frozen linear map from model.dim to model.audioset_classes behind the transformer "
        "(published: true for atst and fpasst, false for beats)",
        ANY),
    ROW(INT, "model.audioset_classes", "527", "outputs of that map", .range = "1..4096"),
    ROW(PATH, "model.init", "", "weights or checkpoint to start from; empty: random", ANY),
    ROW(PATH, "model.init_head", "",
        "weights of the layer of frame logits (earshot probe --init-head), over those of model.init; empty: "
        "none",
        ANY),
    ROW(CHOICE, "model.init_from", "both",
        "which network of a checkpoint to start from; both: student to student, teacher to teacher",
        .choices = "student|teacher|both"),
    ROW(INT, "model.n_frames", "156", "label frames of a clip of 10 s in stages 1 and 2", .range = "1..1000",
        .unit = "frames"),

    ROW(INT, "frontend.fmin_range", "1",
        "in training the lower end of the mel band is drawn from 0 to this - 1, once a leaf; 1: always 0 "
        "(published: 10 in pre-training)",
        .range = "1..2000", .unit = "Hz", .only = "model.arch=fpasst"),
    ROW(INT, "frontend.fmax_range", "2000",
        "in training the upper end is drawn from 8000 - this + 1 to 8000; in evaluation and stage 1 it is "
        "8000 - this / 2, so keep it for later phases",
        .range = "1..4000", .unit = "Hz", .only = "model.arch=fpasst"),
    ROW(INT, "beats.patch_embed", "512", "width of a patch of 16 frames x 16 mels before model.dim",
        .range = "1..4096", BEATS),
    ROW(INT, "beats.conv_taps", "128", "taps of the convolution over tokens", .range = "1..1024", BEATS),
    ROW(INT, "beats.conv_groups", "16", "its groups, a divisor of model.dim", .range = "1..4096", BEATS),
    ROW(INT, "beats.buckets", "320", "rows of the table of relative positions, a multiple of 4",
        .range = "1..4096", BEATS),
    ROW(INT, "beats.max_distance", "800", "relative position from which on all share a row",
        .range = "1..100000", BEATS),
    ROW(DOUBLE, "beats.dropout_input", "0",
        "dropout of the patches in training (published for the self-supervised weights: 0.1, active or not "
        "by the version of Lightning)",
        .range = "0..<1", BEATS),
    ROW(DOUBLE, "beats.dropout", "0",
        "dropout of tokens and of both branches of a block in training (there 0.1)", .range = "0..<1", BEATS),
    ROW(DOUBLE, "beats.attention_dropout", "0",
        "dropout of attention's probabilities in training (there 0.1)", .range = "0..<1", BEATS),
    ROW(DOUBLE, "beats.activation_dropout", "0", "dropout inside a block's MLP in training (there 0)",
        .range = "0..<1", BEATS),
    ROW(DOUBLE, "beats.layerdrop", "0",
        "probability that a block is left out in training, drawn once a leaf (there 0.05)", .range = "0..<1",
        BEATS),
    ROW(DOUBLE, "beats.grad_decay", "1.0",
        "factor of the gradient that flows down, at every block (0.6 in weights fine-tuned on AudioSet)",
        .range = "0..1", BEATS),

    ROW(INTS, "crnn.filters", "[16, 32, 64, 128, 128, 128, 128]", "channels of the convolution blocks",
        .range = "1..2048", STAGES),
    ROW(INTS, "crnn.pool_time", "[2, 2, 1, 1, 1, 1, 1]", "average pooling over time after each block",
        .range = "1..8", STAGES),
    ROW(INTS, "crnn.pool_freq", "[2, 2, 2, 2, 2, 2, 2]", "average pooling over frequency after each block",
        .range = "1..8", STAGES),
    ROW(INT, "crnn.rnn_cells", "256", "GRU cells a direction", .range = "1..4096", STAGES),
    ROW(INT, "crnn.rnn_layers", "2", "bidirectional GRU layers", .range = "1..8", STAGES),
    ROW(DOUBLE, "crnn.dropout", "0.3",
        "dropout in the blocks, on the fused features and behind the GRU (stage 2: 0.5)", .range = "0..<1",
        STAGES),
    ROW(CHOICE, "crnn.activation", "cg", "context gating, or a gated linear unit", .choices = "cg|glu",
        STAGES),
    ROW(CHOICE, "crnn.embed_pool", "aap",
        "how transformer frames become label frames (published: aap for atst, nearest-exact for "
        "fpasst and beats)",
        .choices = "aap|nearest|nearest-exact", STAGES),
    ROW(DOUBLE, "crnn.bn_eps", "1e-3", "BatchNorm epsilon", .range = ">0", STAGES),
    ROW(DOUBLE, "crnn.bn_momentum", "0.99", "share of the newest batch in BatchNorm's running statistics",
        .range = "0..1", STAGES),
    ROW(CHOICE, "crnn.mask_fill", "-1e30",
        "attention logit of classes that a clip's labels leave open (the DESED baseline: -1e4)",
        .choices = "-1e30|-1e4", STAGES),

    ROW(CHOICE, "pretrain.head", "rnn",
        "head while pre-training, dropped afterwards. PretrainedSED: a linear map, over a GRU (rnn) or an "
        "LSTM, its clip outputs by attention or not; cpjku: audioset, or task4rnn (a GRU, over the "
        "AudioSet map when model.wrapper is set)",
        .choices = "linear|rnn|lstm|attention|attention-rnn|attention-lstm|audioset|task4rnn", PRETRAIN),
    ROW(INT, "pretrain.rnn_cells", "2048", "GRU or LSTM cells a direction of that head (task4rnn: 1024)",
        .range = "1..8192", PRETRAIN),
    ROW(INT, "pretrain.rnn_layers", "2", "GRU or LSTM layers of that head", .range = "1..8", PRETRAIN),
    ROW(DOUBLE, "pretrain.weak", "0",
        "weight of the clip outputs' loss, their labels the classes of any frame; 0: not trained",
        .range = ">=0", PRETRAIN),
    ROW(INT, "pretrain.frames", "250", "label frames of a clip of 10 s", .range = "1..1000", .unit = "frames",
        PRETRAIN),
    ROW(DOUBLE, "pretrain.lambda", "0",
        "weight of the distillation loss; the labels get the rest (published students: 0.9)", .range = "0..1",
        PRETRAIN),
    ROW(PATH, "pretrain.pseudo", "", "predictions of the ensemble to distil from", PRETRAIN),
    ROW(CHOICE, "pretrain.sampler", "shuffle",
        "a permutation of all clips, or drawn by weight without replacement: clips of rare classes come "
        "first and are sure to come (weights of PretrainedSED's --use_balanced_sampler)",
        .choices = "shuffle|balanced", PRETRAIN),
    ROW(INT, "pretrain.epoch_clips", "100000", "clips of an epoch", .range = ">=1", .unit = "clips",
        PRETRAIN),
    ROW(INT, "pretrain.classes", "0",
        "classes the stores must have (PretrainedSED: 447, cpjku: 456); 0: any number", .range = "0..65535",
        PRETRAIN),
    ROW(CHOICE, "pretrain.validation", "pretrainedsed",
        "pretrainedsed: PSDS1 of logits, mean over classes; cpjku: PSDS1 of probabilities plus partial "
        "AUROC, clips taken as 10 s long",
        .choices = "pretrainedsed|cpjku", PRETRAIN),
    ROW(INT, "pretrain.median_frames", "9", "median filter at validation, all classes (cpjku: 12)",
        .range = "1..250", .unit = "frames", PRETRAIN),
    ROW(INT, "pretrain.batch", "32", "clips of a leaf (published: 256 a step, here 8 leaves)",
        .range = "1..4096", .unit = "clips", PRETRAIN),

    ROW(PATHS, "data.stores", "[]", "corpus stores to train on", ANY),
    ROW(PATHS, "data.exclude", "[]", "TSV files whose column filename names clips to leave out of training",
        ANY),
    ROW(INTS, "data.subset_sizes", "[12, 10, 10, 20, 20]",
        "clips of a leaf: MAESTRO, real strong, synthetic strong, weak, unlabelled "
        "(stage 2: 7, 5, 5, 9, 9)",
        .range = "0..1024", .count = 5, .unit = "clips", STAGES),
    ROW(PATHS, "data.validation_stores", "[]", "corpus stores to validate on; empty: data.stores", ANY),
    ROW(PATHS, "data.pseudo", "[]",
        "prediction files with pseudo-labels, or folders of them: the first file that knows a clip's name "
        "serves it; files named as published (synth_train, strong_train, external_strong_train, "
        "weak_train, unlabeled_train, maestro_real_train, ...) serve clips of that subset alone",
        STAGES),
    ROW(BOOL, "data.desed_alias", "true",
        "DESED's Dishes and Speech are MAESTRO's \"cutlery and dishes\" and \"people talking\", too", STAGES),
    ROW(PATH, "data.stage_dir", "",
        "folder on node-local disk: stores are copied there once a node, checked by digest, and read from "
        "there; empty: off",
        OUTSIDE),
    ROW(INT, "data.epoch_steps", "0", "steps of an epoch; 0: until the smallest subset is used up",
        .range = "0..1000000000", .unit = "steps"),

    ROW(INT, "train.leaves", "1",
        "leaves of a step: micro-batches whose gradients are averaged, shared by the ranks",
        .range = "1..64"),
    ROW(INT, "train.epochs", "200", "length of the run; the schedules follow it (stage 2: 250)",
        .range = "1..1000000", .unit = "epochs"),
    ROW(INT, "train.max_steps", "0", "stop after this step, as if all were done; 0: no limit",
        .range = "0..1000000000", .unit = "steps", OUTSIDE),
    ROW(CHOICE, "train.precision", "fp32",
        "arithmetic of the transformers' linear layers; bf16 is fp32 where a processor has no bf16 "
        "instructions",
        .choices = "fp32|bf16"),
    ROW(INT, "train.validate_every", "10", "validate after every so many epochs; 0: never",
        .range = "0..1000000", .unit = "epochs"),
    ROW(BOOL, "train.validate_teacher", "true", "validate the teacher, too; the student's scores decide",
        STAGES),
    ROW(BOOL, "train.test", "true",
        "after the last step score the best checkpoint on the test sets of the validation stores", STAGES),
    ROW(DOUBLE, "train.clip_norm", "0", "largest norm of the gradient; 0: not clipped (pre-training: 0.5)",
        .range = ">=0"),
    ROW(CHOICE, "train.on_bad_step", "stop",
        "when a loss or gradient is not finite, or above train.loss_limit: end with 65; leave the step "
        "out; or go back to the last checkpoint and leave out the steps since. Ten in a row end the run",
        .choices = "stop|skip|rewind", OUTSIDE),
    ROW(DOUBLE, "train.loss_limit", "0", "a loss of a leaf above this makes the step a bad one; 0: no limit",
        .range = ">=0", OUTSIDE),
    ROW(INT, "train.frozen_block", "4",
        "clips of a block of the frozen transformer's forward pass, the unit that ranks share",
        .range = "1..64", .unit = "clips", .only = "phase=stage1"),
    ROW(BOOL, "train.memory_plan_only", "false", "print how much memory a step takes, then stop", OUTSIDE),

    ROW(CHOICE, "optimizer.kind", "adamw",
        "weight decay apart from the gradient, or none (iteration 1 stage 2 and pre-training: adam)",
        .choices = "adam|adamw"),
    ROW(DOUBLE, "optimizer.crnn_lr", "1e-3", "peak learning rate of all that stage 1 trains", .range = ">0",
        .only = "phase=stage1"),
    ROW(DOUBLE, "optimizer.cnn_lr", "1e-4", "peak learning rate of the convolutions", .range = ">0",
        .only = "phase=stage2"),
    ROW(DOUBLE, "optimizer.rnn_lr", "1e-3", "peak learning rate of GRU, fusion and heads", .range = ">0",
        .only = "phase=stage2"),
    ROW(DOUBLE, "optimizer.transformer_lr", "1e-4",
        "peak learning rate of the transformer's output end (PretrainedSED teachers: 7e-5)", .range = ">0",
        .only = "phase=pretrain|stage2"),
    ROW(DOUBLE, "optimizer.head_lr", "1e-3", "peak learning rate of the head", .range = ">0", PRETRAIN),
    ROW(DOUBLE, "optimizer.layer_decay", "1.0",
        "factor on the learning rate from a block to the one below it", .range = "0..1",
        .only = "phase=pretrain|stage2"),
    ROW(DOUBLE, "optimizer.weight_decay", "1e-2",
        "decay of every trained parameter, biases and norms included but in pre-training (adamw; adam has "
        "none)",
        .range = ">=0"),
    ROW(DOUBLE, "optimizer.beta1", "0.9", "decay of the gradient's first moment", .range = "0..<1"),
    ROW(DOUBLE, "optimizer.beta2", "0.999", "decay of the gradient's second moment", .range = "0..<1"),
    ROW(DOUBLE, "optimizer.eps", "1e-8", "added to the root of the second moment", .range = ">0"),
    ROW(INT, "optimizer.warmup_steps", "4000",
        "steps over which the learning rate rises from 0 (stage 2: 270, pre-training: 5000)",
        .range = "0..1000000000", .unit = "steps"),
    ROW(CHOICE, "schedule.kind", "cosine",
        "learning rate after the warm-up: down to 0 along a cosine, or constant",
        .choices = "cosine|constant"),
    ROW(INT, "schedule.head_steps", "0",
        "steps over which the head's rate goes in a straight line from optimizer.head_lr to "
        "schedule.head_end_lr, where it stays, whatever schedule.kind (cpjku: 5387); 0: the head follows "
        "the rest",
        .range = "0..1000000000", .unit = "steps", PRETRAIN),
    ROW(DOUBLE, "schedule.head_end_lr", "1e-5", "learning rate of the head from then on", .range = ">=0",
        PRETRAIN),

    ROW(DOUBLE, "loss.maestro", "0.08", "weight of MAESTRO's strong labels (lambda 0)", .range = ">=0",
        STAGES),
    ROW(DOUBLE, "loss.real", "0.05", "weight of real strong labels (lambda 1)", .range = ">=0", STAGES),
    ROW(DOUBLE, "loss.synthetic", "0.08", "weight of synthetic strong labels (lambda 2)", .range = ">=0",
        STAGES),
    ROW(DOUBLE, "loss.weak", "0.21", "weight of weak labels (lambda 3)", .range = ">=0", STAGES),
    ROW(DOUBLE, "loss.ssl", "0.58", "weight of agreement with the teacher (lambda 4)", .range = ">=0",
        STAGES),
    ROW(DOUBLE, "loss.pseudo", "0", "weight of pseudo-labels (lambda 5); 0: none needed", .range = ">=0",
        STAGES),
    ROW(CHOICE, "loss.maestro_type", "bce", "loss of MAESTRO's strong labels; both: (4 mse + bce) / 2",
        .choices = "bce|mse|both", STAGES),
    ROW(CHOICE, "loss.ssl_type", "mse", "loss of agreement with the teacher", .choices = "bce|mse|both",
        STAGES),
    ROW(CHOICE, "loss.pseudo_type", "bce", "loss of pseudo-labels", .choices = "bce|mse|both", STAGES),
    ROW(CHOICE, "loss.pseudo_classes", "published",
        "pseudo-labels of all 27 classes, or 0 for those not labelled in a clip's corpus (masked); "
        "published: masked in stage 1, all in stage 2",
        .choices = "published|masked|all", STAGES),
    ROW(INT, "loss.ssl_warmup_steps", "14000", "steps until agreement has weight loss.ssl (stage 2: 270)",
        .range = "1..1000000000", .unit = "steps", STAGES),
    ROW(DOUBLE, "loss.ssl_scale_max", "2.0",
        "where the growth of that weight ends, in units of loss.ssl (stage 2: 1)", .range = ">=0", STAGES),
    ROW(BOOL, "loss.ssl_no_class_mask", "false",
        "agreement over all 27 classes, not only those labelled in a clip's corpus", STAGES),
    ROW(BOOL, "loss.exclude_maestro_weak_ssl", "false", "no agreement on the clip level for MAESTRO", STAGES),
    ROW(CHOICE, "loss.ssl_clips", "all",
        "clips whose agreement counts; interpolation consistency takes all of them anyway",
        .choices = "all|desed|maestro", STAGES),
    ROW(BOOL, "loss.ict", "true", "interpolation consistency instead of plain agreement in steps with mixup",
        .only = "phase=stage2"),
    ROW(DOUBLE, "loss.scale", "0", "factor on the whole loss; 0: 5 in stage 1, 1 in stage 2, as published",
        .range = ">=0", STAGES),
    ROW(DOUBLE, "ema.decay", "0.999", "decay of the teacher's moving average", .range = "0..<1", STAGES),

    ROW(DOUBLE, "augment.mixup", "0.5", "probability that a leaf's mels are mixed", .range = "0..1"),
    ROW(DOUBLE, "augment.mixup_alpha", "0.2", "Beta(alpha, alpha) of mixup's coefficients", .range = ">0"),
    ROW(BOOL, "augment.mixup_joint", "true", "mix MAESTRO and DESED clips with each other", STAGES),
    ROW(CHOICE, "augment.mixup_labels", "soft",
        "labels of mixed clips: weighed as the clips are, or hard: both clips' in full",
        .choices = "soft|hard", STAGES),
    ROW(DOUBLE, "augment.wavmix", "0.5", "probability that a strongly labelled clip's waveform is mixed",
        .range = "0..1"),
    ROW(DOUBLE, "augment.wavmix_alpha", "0.2", "Beta(alpha, alpha) of its coefficients", .range = ">0"),
    ROW(DOUBLE, "augment.dir", "0",
        "probability that a clip's waveform is convolved with a device's impulse response (stage 2: 0.5)",
        .range = "0..1"),
    ROW(PATHS, "augment.dir_files", "[]",
        "audio files with these impulse responses, of at most 10 s; of a folder all audio files below it, by "
        "path",
        ANY),
    ROW(INT, "augment.gain_db", "0", "a clip's gain is drawn from -this to this - 1 dB; 0: none",
        .range = "0..60", .unit = "dB"),
    ROW(DOUBLE, "augment.frame_shift", "0",
        "each clip is rolled along time, standard deviation as a share of its frames; 0: none "
        "(pre-training: 0.125)",
        .range = "0..1"),
    ROW(BOOL, "augment.time_mask", "false",
        "silence a span of the DESED clips with strong labels, the same in a leaf (stage 2: true)", ANY),
    ROW(DOUBLE, "augment.time_mask_min", "0.05", "shortest span, share of the label frames",
        .range = "0..<1"),
    ROW(DOUBLE, "augment.time_mask_max", "0.3", "spans are shorter than this share of the label frames",
        .range = "0..1"),
    ROW(DOUBLE, "augment.mixstyle", "0.5",
        "probability that a leaf's clips exchange means and deviations of their mel bins (pre-training: 0.3)",
        .range = "0..1"),
    ROW(DOUBLE, "augment.mixstyle_alpha", "0.3", "Beta(alpha, alpha) of its coefficients (pre-training: 0.4)",
        .range = ">0"),
    ROW(BOOL, "augment.mixstyle_joint", "true", "between MAESTRO and DESED clips, too", STAGES),
    ROW(DOUBLE, "augment.freq_warp", "0.5",
        "probability that a crop of the transformer's mel bins is stretched over all (pre-training: 0.8)",
        .range = "0..1", .only = "phase=pretrain|stage2"),
    ROW(DOUBLE, "augment.freq_warp_min", "0.6", "smallest crop, share of the bins", .range = "0..1",
        .only = "phase=pretrain|stage2"),
    ROW(BOOL, "augment.freq_warp_maestro", "true", "of MAESTRO clips, too", .only = "phase=stage2"),
    ROW(DOUBLE, "augment.filter", "0.8",
        "probability that a leaf's mels are filtered: in stage 1 the CRNN's, apart for student and teacher; "
        "else the transformer's, too, and the student's alone",
        .range = "0..1"),
    ROW(DOUBLE, "augment.filter_db", "6", "largest gain of a filter, up or down", .range = "0..60",
        .unit = "dB"),
    ROW(INTS, "augment.filter_bands", "[3, 5]", "fewest and most bands of a filter", .range = "1..8",
        .count = 2),
    ROW(INT, "augment.filter_width", "6", "least width of a band", .range = "1..16", .unit = "mel bins"),

    ROW(CHOICE, "quirks.atst_floor", "clip",
        "ATST's floor of 80 dB below the loudest bin of the clip, or (public code) of the batch",
        .choices = "clip|batch", .only = "model.arch=atst"),
    ROW(CHOICE, "quirks.fpasst_groups", "published",
        "fpasst's blocks 10 and 11 in the learning rate group of block 1 (public code), or "
        "each in its own",
        .choices = "published|fixed", .only = "model.arch=fpasst"),

    ROW(CHOICE, "quirks.adamw_1d", "fixed",
        "decay of biases and norms in pre-training with adamw: none, or 0.01 whatever optimizer.weight_decay "
        "(PretrainedSED with --adamw)",
        .choices = "fixed|published", PRETRAIN),

    ROW(DOUBLE, "metrics.flush_seconds", "30", "time between writes of the metrics file", .range = ">=0",
        .unit = "s", OUTSIDE),
    ROW(DOUBLE, "checkpoint.every_seconds", "600", "time between checkpoints; 0: off", .range = ">=0",
        .unit = "s", OUTSIDE),
    ROW(INT, "checkpoint.every_steps", "0", "steps between checkpoints; 0: off", .range = "0..1000000000",
        .unit = "steps", OUTSIDE),
    ROW(BOOL, "checkpoint.background", "true",
        "write those of a run that goes on from a copy, while it trains; false: it waits", OUTSIDE),
    ROW(INT, "predict.block", "8", "clips of a forward pass in predict, the unit that ranks share",
        .range = "1..1024", .unit = "clips"),
    ROW(INTS, "evaluate.median_frames",
        "[3, 9, 9, 5, 5, 5, 9, 7, 11, 9, 7, 3, 9, 13, 7, 1, 13, 3, 13, 7, 5, 5, 1, 13, 17, 13, 15]",
        "median filter of each of the 27 classes", .range = "1..156", .count = 27, .unit = "frames"),
    ROW(INT, "dsp.max_local_samples", "100000000",
        "longer recordings are resampled and convolved by all ranks together in prepare "
        "(38 minutes at 44.1 kHz)",
        .range = "1000..1000000000000", .unit = "samples", OUTSIDE),
    ROW(INT, "linalg.local_max", "4096", "largest system solved by LAPACK on one rank; above: ScaLAPACK",
        .range = "1..1000000"),
    ROW(INTS, "linalg.grid", "[0, 0]",
        "rows and columns of ScaLAPACK's grid of ranks; 0: all ranks, as square as their number allows",
        .range = "0..4096", .count = 2, OUTSIDE),
    ROW(DOUBLES, "probe.lambdas", "[1.0e-6, 1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2, 0.1]",
        "penalties that probe tries, relative to the mean of the diagonal of X'X", .range = ">0", OUTSIDE),

    ROW(CHOICE, "prepare.corpus", "desed", "which corpus to read", .choices = "as-strong|desed|maestro"),
    ROW(PATH, "prepare.root", "", "folder of the corpus", ANY),
    ROW(STRINGS, "prepare.subsets", "[]",
        "subsets to read; empty: all of the corpus, but of DESED external_train, external_validation and "
        "public",
        ANY),
    SUBSET("strong", "audio/train/strong_label_real_16k", "metadata/train/audioset_strong.tsv", ""),
    EXCLUDE("strong"),
    SUBSET("external_train", "audio/external_strong_16k",
           "external_strong_split/external_audioset_strong_train.tsv",
           "external_strong_split/external_audioset_strong_train_dur.tsv"),
    EXCLUDE("external_train"),
    SUBSET("external_validation", "audio/external_strong_16k",
           "external_strong_split/external_audioset_strong_eval.tsv",
           "external_strong_split/external_audioset_strong_eval_dur.tsv"),
    SUBSET("public", "eval/desed_public_eval/audio/eval/public_16k",
           "eval/desed_public_eval/metadata/eval/public.tsv",
           "eval/desed_public_eval/metadata/eval/public_durations.tsv"),
    SUBSET("synth", "dcase_synth/audio/train/synthetic21_train/soundscapes_16k",
           "dcase_synth/metadata/train/synthetic21_train/soundscapes.tsv", ""),
    EXCLUDE("synth"),
    SUBSET("weak", "audio/train/weak_16k", "metadata/train/weak.tsv", ""),
    EXCLUDE("weak"),
    SUBSET("unlabeled", "audio/train/unlabel_in_domain_16k", "", ""),
    EXCLUDE("unlabeled"),
    SUBSET("validation", "audio/validation/validation_16k", "metadata/validation/validation.tsv",
           "metadata/validation/validation_durations.tsv"),
    SUBSET("synth_validation", "audio/validation/synthetic21_validation/soundscapes_16k",
           "dcase_synth/metadata/validation/synthetic21_validation/soundscapes.tsv",
           "dcase_synth/metadata/validation/synthetic21_validation/durations.tsv"),
    SUBSET("maestro_train", "audio/maestro_real_train_16k", "metadata/maestro_real_train.tsv", ""),
    EXCLUDE("maestro_train"),
    RECORDINGS("maestro_train"),
    SUBSET("maestro_validation", "audio/maestro_real_validation_16k", "metadata/maestro_real_validation.tsv",
           "metadata/maestro_real_durations.tsv"),
    RECORDINGS("maestro_validation"),
    SUBSET("as_train", "audio/train", "metadata/audioset_train_strong.tsv", ""),
    ROW(PATH, "prepare.as_train_more_audio", "",
        "a second place of its audio (AudioSet's unbalanced part): a folder, or an .hdf of mp3s; under "
        "prepare.root; empty: none",
        ANY),
    EXCLUDE("as_train"),
    SUBSET("as_eval", "audio/eval", "metadata/audioset_eval_strong.tsv",
           "metadata/audioset_eval_durations.tsv"),
    ROW(DOUBLE, "prepare.weak_split", "0.9", "share of weak clips for training, the rest for validation",
        .range = "0..1"),
    ROW(DOUBLE, "prepare.maestro_split", "0.9", "share of each scene's recordings for training",
        .range = "0..1"),
    ROW(INT, "prepare.split_seed", "42", "seed of these splits (NumPy's legacy generator)",
        .range = "0..4294967295"),
    ROW(PATH, "prepare.mids", "metadata/mid_to_display_name.tsv",
        "AudioSet: table of machine id and display name, no header; under prepare.root", ANY),
    ROW(PATH, "prepare.classes", "", "list of classes, one a line; empty: those of the corpus", ANY),
    ROW(CHOICE, "prepare.class_set", "all",
        "AudioSet: classes of the table of machine ids (456), those with training labels (447), with "
        "evaluation labels (416), with both (407); events of other classes are dropped and counted",
        .choices = "all|train|eval|common"),
    ROW(BOOL, "prepare.skip_missing", "false",
        "clips whose audio file is missing are expected: left out and counted, no problem even for --strict",
        ANY),
    ROW(DOUBLE, "prepare.min_share", "0.5",
        "share of a set's clips that must have sound rows and audio; less: an error (a download that failed)",
        .range = "0..1"),
    ROW(INT, "prepare.rate_hz", "0",
        "sample rate that every audio file must have; 0: 16000 in folders called ..._16k, any elsewhere",
        .range = "0..384000", .unit = "Hz"),
    ROW(INT, "prepare.channels", "0", "channels that every audio file must have; 0: any", .range = "0..64"),
    ROW(PATH, "prepare.response", "",
        "impulse response of a device (an audio file of at most 10 s; a folder: each recording gets one, "
        "by its name): the store holds the corpus as that device would have recorded it; its largest "
        "sample is time 0, so labels stay where they are; empty: none",
        ANY),
    ROW(BOOL, "prepare.overlap_exclude", "true",
        "leave out training clips that are also in an evaluation set, weak and unlabelled ones also if "
        "strongly labelled: by file name or YouTube id (with --strict the exclusion lists must name them)",
        ANY),

    ROW(INT, "demo.clips", "24",
        "size of the demo corpus, which the counts below follow; --clips overrides it", .range = "1..100000",
        .unit = "clips"),
    ROW(INT, "demo.clips_as", "-1", "AudioSet-strong-like clips for training; -1: 3 demo.clips",
        .range = "-1..1000000", .unit = "clips"),
    ROW(INT, "demo.clips_as_eval", "-1",
        "AudioSet-strong-like clips for evaluation; -1: a sixth of those for training",
        .range = "-1..1000000", .unit = "clips"),
    ROW(INT, "demo.clips_real", "-1", "DESED-like clips with real strong labels; -1: demo.clips",
        .range = "-1..1000000", .unit = "clips"),
    ROW(INT, "demo.clips_synth", "-1", "DESED-like synthetic clips; -1: demo.clips", .range = "-1..1000000",
        .unit = "clips"),
    ROW(INT, "demo.clips_weak", "-1", "clips with weak labels; -1: demo.clips", .range = "-1..1000000",
        .unit = "clips"),
    ROW(INT, "demo.clips_unlabeled", "-1", "clips without labels; -1: 2 demo.clips", .range = "-1..1000000",
        .unit = "clips"),
    ROW(INT, "demo.clips_validation", "-1", "clips of the validation set; -1: demo.clips",
        .range = "-1..1000000", .unit = "clips"),
    ROW(INT, "demo.clips_synth_validation", "-1",
        "clips of the synthetic validation set; -1: half of demo.clips", .range = "-1..1000000",
        .unit = "clips"),
    ROW(INT, "demo.maestro_train", "-1",
        "MAESTRO-like recordings for training, in 5 scenes; -1: from demo.clips", .range = "-1..10000"),
    ROW(INT, "demo.maestro_validation", "-1",
        "MAESTRO-like recordings for validation, in 5 scenes; -1: from demo.clips", .range = "-1..10000"),
    ROW(DOUBLE, "demo.maestro_seconds", "60", "length of such a recording", .range = "10..3600", .unit = "s"),
    ROW(DOUBLE, "demo.snr_min_db", "-6", "least level of an event above the background", .range = "-60..60",
        .unit = "dB"),
    ROW(DOUBLE, "demo.snr_max_db", "12", "greatest level of an event above the background",
        .range = "-60..60", .unit = "dB"),
    ROW(DOUBLE, "demo.test_fraction", "0.34",
        "share of source recordings and backgrounds kept for validation", .range = "0..1"),
    ROW(DOUBLE, "demo.pitch_semitones", "3",
        "recorded events are played faster or slower, their pitch up or down by at most this, as DESED's own "
        "generator varies it",
        .range = "0..12", .unit = "semitones"),
};

#define N_KEYS ((int)(sizeof table / sizeof *table))

const struct es_config_key *es_config_keys(int *n) {
    if (n) *n = N_KEYS;
    return table;
}

int es_config_find(const char *name) {
    for (int i = 0; i < N_KEYS; i++)
        if (strcmp(table[i].name, name) == 0) return i;
    return -1;
}

int es_config_require_row(const char *name, unsigned type_mask) {
    int row = es_config_find(name);
    if (row < 0 || !(type_mask & (1u << table[row].type))) {
        fprintf(stderr, "earshot: configuration key %s\n", name);
        es_bug(__FILE__, __LINE__, "a getter's key is in the table, with this type");
    }
    return row;
}

bool es_config_is_section(const char *name) {
    size_t len = strlen(name);
    for (int i = 0; i < N_KEYS; i++)
        if (strncmp(table[i].name, name, len) == 0 && table[i].name[len] == '.') return true;
    return false;
}

const char *es_config_job(const char *name) {
    return strncmp(name, "prepare", 7) == 0 ? "prepare" : strncmp(name, "demo", 4) == 0 ? "demo" : "train";
}

/* The section of a row, or its name when it stands at the top. */
static void section_of(int row, char out[32]) {
    size_t len = strcspn(table[row].name, ".");
    ES_ASSERT(len < 32);
    memcpy(out, table[row].name, len);
    out[len] = 0;
}

int es_config_unknown(const char *where, const char *name, bool section, struct es_err *err) {
    struct es_nearest near = {.word = name};
    char sections[N_KEYS][32];
    for (int i = 0; i < N_KEYS; i++) {
        section_of(i, sections[i]);
        es_nearest_add(&near, section ? sections[i] : table[i].name);
    }
    const char *what = section ? "section" : "key";
    if (!near.best)
        return es_err_set(err, ES_EUSAGE, "%s: %.100s: unknown %s; see configs/reference.yaml", where, name,
                          what);
    return es_err_set(err, ES_EUSAGE, "%s: %.100s: unknown %s, nearest is %s; see earshot %s --explain %s",
                      where, name, what, near.best, es_config_job(near.best), near.best);
}
