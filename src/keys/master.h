/*
 * master.h
 *	  The master keys: which there are, and which the cluster depends on.
 */
#ifndef KEYROT_MASTER_H
#define KEYROT_MASTER_H

#include "keys/master_text.h"
#include "base/errors.h"

extern MasterKeys *master_read(KeyProblem *problem);
extern MasterKeys *master_read_again(KeyProblem *problem);
extern MasterKeys *master_read_or_make(KeyProblem *problem);
extern MasterKeys *master_add(KeyProblem *problem);
extern void master_note_in_use(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES]);
extern void master_free(MasterKeys *keys);
extern char *master_source(void);

#endif
