/*
 * reseal.h
 *	  Moves every secret to the current data key.
 */
#ifndef KEYROT_RESEAL_H
#define KEYROT_RESEAL_H

#include "base/compat.h"

#include "store/key_statements.h"

typedef enum ResealState
{
	RESEAL_NONE,				/* none was ever begun, or the last one reached its end */
	RESEAL_RUNS,
	RESEAL_STOPPED				/* before its end */
} ResealState;

extern ResealState reseal_look(ResealRow *row);
extern int64 reseal_time_left(const ResealRow *row);

#endif
