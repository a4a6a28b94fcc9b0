#ifndef APUS_TILE_H
#define APUS_TILE_H
#include "apus_base.h"
#endif
