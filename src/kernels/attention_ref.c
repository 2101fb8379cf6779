#include "earshot/kernels_beats.h"
#define ES_REF_FILE "attention_ref.inc"
#include "ref_twice.h"
