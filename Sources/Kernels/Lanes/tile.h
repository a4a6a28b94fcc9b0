// Between the single operations and the tile machine.
#ifndef APUS_TILE_INTERNAL_H
#define APUS_TILE_INTERNAL_H
#include "apus_tile.h"

bool apus_op_is_predicate(int op);
int apus_op_cost(int op);
#endif
