#ifndef APUS_INDEXING_H
#define APUS_INDEXING_H
#include "apus_base.h"
#endif
