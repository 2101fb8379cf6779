#define ES_REF_FILE "adamw_ref.inc"
#include "ref_twice.h"
