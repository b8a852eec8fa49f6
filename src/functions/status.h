/*
 * status.h
 *	  The state of keyrot in this session, database and server, one fact a row.
 */
#ifndef KEYROT_STATUS_H
#define KEYROT_STATUS_H

#include "functions/reseal.h"
#include "keys/keyring.h"

typedef struct StatusRow
{
	const char *item;
	const char *value;			/* NULL: there is none */
	const char *problem;		/* NULL: all is well */
} StatusRow;

typedef struct Status
{
	KeyringStatus keys;
	ResealState reseal_state;
	ResealRow	reseal;			/* where one runs */
	MemoryContext context;		/* of the texts */
	int			count;
	StatusRow  *rows;			/* in the order in which they are shown; an item may have several, one after the other */
} Status;

extern void status_collect(Status *status);

#endif
