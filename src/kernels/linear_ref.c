#define ES_REF_FILE "linear_ref.inc"
#include "ref_twice.h"
