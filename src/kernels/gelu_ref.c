#define ES_REF_FILE "gelu_ref.inc"
#include "ref_twice.h"
