/*
 * master.h
 *	  The master keys: reading them, and creating new ones.
 */
#ifndef KEYROT_MASTER_H
#define KEYROT_MASTER_H

#include "keys/master_text.h"
#include "base/errors.h"

extern MasterKeys *master_read(KeyProblem *problem);
extern MasterKeys *master_read_again(KeyProblem *problem);
extern MasterKeys *master_read_for_wrapping(KeyProblem *problem);
extern MasterKeys *master_create(bool *made, KeyProblem *problem);
extern MasterKeys *master_add(KeyProblem *problem);
extern void master_free(MasterKeys *keys);
extern char *master_source(void);

#endif
