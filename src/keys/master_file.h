/*
 * master_file.h
 *	  The cluster's key file: read, created, extended.
 */
#ifndef KEYROT_MASTER_FILE_H
#define KEYROT_MASTER_FILE_H

#include "keys/master_text.h"
#include "base/errors.h"

extern char *master_file_path(void);
extern bool master_file_is_in_data_directory(void);
extern bool master_file_read(const char *path, MasterKeys *keys, KeyProblem *problem);
extern bool master_file_settle(const char *path, KeyProblem *problem);
extern void master_file_tidy(const char *path);
extern bool master_file_make(const char *path, bool *made, KeyProblem *problem);
extern bool master_file_add_key(const char *path, KeyProblem *problem);

#endif
