/*
 * data_key.h
 *	  Data keys as rows: created, wrapped with a master key, unwrapped.
 */
#ifndef KEYROT_DATA_KEY_H
#define KEYROT_DATA_KEY_H

#include "keys/master_text.h"
#include "store/rows.h"
#include "base/errors.h"

extern CryptoKey *data_key_open(const DataKeyRow *row, const MasterKeys *masters, const char *source,
								KeyProblem *problem);
extern const MasterKey *data_key_master(const DataKeyRow *row, const MasterKeys *masters);
extern CryptoStatus data_key_make(int32 id, const MasterKeys *masters, DataKeyRow *row);
extern CryptoStatus data_key_renew(const CryptoKey *key, const MasterKeys *masters, DataKeyRow *row);

#endif
