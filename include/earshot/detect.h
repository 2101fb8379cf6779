/* Events in audio files of any length, rate and number of channels, with a trained network.
 *
 * A file is mixed to mono, resampled to 16 kHz and rounded to int16 (as in a corpus store), cut into windows of 10 s that begin every
 * hop_s seconds on the frame grid. Logits of the windows that cover a frame are averaged with weights that fall linearly toward a
 * window's ends, so that there is no seam; then the sigmoid. A file of up to 10 s is one window: the logits of `earshot predict`.
 * Files longer than five minutes are read piece by piece.
 *
 * Files go round the ranks; the result does not depend on their number.
 */
#ifndef EARSHOT_DETECT_H
#define EARSHOT_DETECT_H

#include "earshot/comm.h"
#include "earshot/forward.h"
#include "earshot/postprocess.h"
#include "earshot/scores.h"

struct es_detect_params {
    int n_files;
    const char *const *file;
    const char *const *class_name;            /* [K] of the network */
    double hop_s;                             /* 0 < hop_s <= 10; rounded to whole frames */
    double threshold;                         /* of classes for which postprocess has none */
    const struct es_postprocess *postprocess; /* NULL: none; windows and parameters for every class */
    /* frame scores of every file as <name without extension>.tsv, before post-processing; NULL: none */
    const char *scores_dir;
};

/* Frame scores of one file as a table of one clip: its name without folders. */
int es_detect_scores(struct es_scores **scores, struct es_forward *f, const char *path,
                     const char *const *class_name, double hop_s, struct es_err *err);

/* Events of all files, on every rank, in order of the files; confidence: mean score of a run, or of a box. Returns ES_STOPPED when a
 * signal asked for it: files done so far have their score tables, *events is NULL. */
int es_detect_all(struct es_truth **events, const struct es_comm *comm, struct es_forward *f,
                  const struct es_detect_params *params, struct es_err *err);

#endif
