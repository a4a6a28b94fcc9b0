#ifndef APUS_POOLING_H
#define APUS_POOLING_H
#include "apus_base.h"
#endif
