#define ES_REF_FILE "layernorm_ref.inc"
#include "ref_twice.h"
