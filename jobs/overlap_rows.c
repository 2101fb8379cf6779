#include "overlap_rows.h"

void overlap_print(struct es_run *run, const struct es_overlaps *o) {
    char text[400];
    for (int i = 0; i < o->n; i++) {
        es_overlap_describe(&o->row[i], text, sizeof text);
        es_run_print(run, "%s %s\n", o->row[i].leak ? "OVERLAP " : "overlap ", text);
    }
}

void overlap_write(struct es_json *j, const struct es_overlaps *o) {
    es_json_key(j, "overlaps");
    es_json_begin_array(j);
    for (int i = 0; i < o->n; i++) {
        const struct es_overlap *r = &o->row[i];
        es_json_begin_object(j);
        es_json_put_string(j, "a", es_subset_name(r->subset[0]));
        es_json_put_bool(j, "a_trains", r->trains[0]);
        es_json_put_string(j, "b", es_subset_name(r->subset[1]));
        es_json_put_bool(j, "b_trains", r->trains[1]);
        es_json_put_int(j, "names", r->names);
        es_json_put_int(j, "youtube_ids", r->ids);
        es_json_put_bool(j, "leak", r->leak);
        es_json_key(j, "examples");
        es_json_begin_array(j);
        for (int e = 0; e < r->n_examples; e++) es_json_string(j, r->example[e]);
        es_json_end_array(j);
        es_json_end_object(j);
    }
    es_json_end_array(j);
}
