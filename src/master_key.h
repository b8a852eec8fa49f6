/*
 * master_key.h
 *	  Where the master key comes from: the cluster's key file.
 */
#ifndef KEYROT_MASTER_KEY_H
#define KEYROT_MASTER_KEY_H

#include "errors.h"
#include "keyfile.h"

extern MasterKeys *master_key_read(KeyProblem *problem);
extern MasterKeys *master_key_read_or_make(KeyProblem *problem);
extern void master_key_note_in_use(const uint8_t fingerprint[KEYFILE_FINGERPRINT_BYTES]);
extern bool master_key_is_noted(void);
extern void master_key_free(MasterKeys *keys);

extern char *master_key_path(void);
extern bool master_key_is_in_data_directory(void);

#endif
