/* Guards that the simulator can switch off, one at a time, to show that it would notice.
 *
 * MUTANT(NAME) stands beside a guard, always so that false means: as designed. In a product
 * build it is the constant false and leaves no trace; only tests/sim is compiled with
 * ANYSA_MUTANTS. A guard without a line in mutant.def does not compile there. */
#ifndef SYNC_MUTANT_H
#define SYNC_MUTANT_H

#ifdef ANYSA_MUTANTS
enum mutant {
    MUTANT_NONE,
#define GUARD(name, text) MUTANT_##name,
#include "sync/mutant.def"
#undef GUARD
    MUTANT_COUNT,
};
extern enum mutant mutant_on; /* tests/sim/main.c */
#define MUTANT(name) (mutant_on == MUTANT_##name)
#else
#define MUTANT(name) false
#endif

#endif
