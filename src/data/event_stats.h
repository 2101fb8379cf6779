/* Statistics of the real label files, as numbers: what the demo corpus imitates. Generated into event_stats.c
 * by analysis/make_event_stats.py from event_stats.json (label files of DESED, AudioSet-strong and MAESTRO
 * Real). Class order: the 10 DESED classes, then the 17 MAESTRO classes, as everywhere (spec: 27 classes). */
#ifndef ES_DATA_EVENT_STATS_H
#define ES_DATA_EVENT_STATS_H

enum { ES_STATS_DESED = 10, ES_STATS_MAESTRO = 17, ES_STATS_SCENES = 5, ES_STATS_QUANTILES = 7 };

/* Levels of all quantiles: 0.05 0.1 0.25 0.5 0.75 0.9 0.95. */
struct es_event_stats {
    int files, events;
    int files_with_classes[4];       /* files with 1, 2, 3, 4 classes; files without events are the rest */
    int class_files[ES_STATS_DESED]; /* files that hold the class */
    int class_events[ES_STATS_DESED];
    double duration_s[ES_STATS_DESED][ES_STATS_QUANTILES];
    double onset_s[ES_STATS_DESED][ES_STATS_QUANTILES];
    int both[ES_STATS_DESED][ES_STATS_DESED]; /* files that hold both classes; diagonal 0 */
};

struct es_weak_stats {
    int files_with_labels[4];
    int class_files[ES_STATS_DESED];
};

struct es_maestro_stats { /* hard labels (agreement above 0.5) on 1-s segments */
    int scene_s[ES_STATS_SCENES];
    int active_s[ES_STATS_SCENES][ES_STATS_MAESTRO];
    double run_s[ES_STATS_MAESTRO][ES_STATS_QUANTILES]; /* lengths of active runs; 0: class never above 0.5 */
};

extern const struct es_event_stats es_stats_desed_validation, es_stats_audioset_desed;
extern const struct es_weak_stats es_stats_weak;
extern const struct es_maestro_stats es_stats_maestro;

#endif
