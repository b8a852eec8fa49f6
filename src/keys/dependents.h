/*
 * dependents.h
 *	  Which databases depend on a master key.
 */
#ifndef KEYROT_DEPENDENTS_H
#define KEYROT_DEPENDENTS_H

#include "base/errors.h"

extern bool dependents_are_none(const char *key_file, KeyProblem *problem);

/* Entry point, which PostgreSQL finds by name. */
extern PGDLLEXPORT void keyrot_dependents_main(Datum argument);

#endif
