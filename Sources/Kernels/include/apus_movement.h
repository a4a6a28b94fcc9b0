#ifndef APUS_MOVEMENT_H
#define APUS_MOVEMENT_H
#include "apus_base.h"
#endif
