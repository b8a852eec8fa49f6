/*
 * keyring.h
 *	  The database's data keys, unwrapped and cached for the session.
 */
#ifndef KEYROT_KEYRING_H
#define KEYROT_KEYRING_H

#include "keys/master_text.h"
#include "base/errors.h"

/* What status() reports about the keys. */
typedef struct KeyringStatus
{
	int			data_keys;
	int32		current;		/* 0: none yet */
	char		master_key[MASTER_TEXT_FINGERPRINT_DIGITS + 1]; /* empty: it could not be read */
	uint8_t		(*masters)[MASTER_TEXT_FINGERPRINT_BYTES];	/* those that data keys are wrapped by, palloc'ed */
	int			masters_count;
	bool		needs_rewrap;	/* some data key is not wrapped by the current one */
	bool		has_problem;
	KeyProblem	problem;
} KeyringStatus;

extern CryptoKey *keyring_current(int32 *key_id);
extern CryptoKey *keyring_newest(int32 *key_id);
extern int32 keyring_newest_id(void);
extern CryptoKey *keyring_find(int32 key_id);
extern bool keyring_ready(void);
extern bool keyring_lock_share_row_exclusive(void);
extern int32 keyring_add(void);
extern int	keyring_rewrap(char fingerprint[MASTER_TEXT_FINGERPRINT_DIGITS + 1]);
extern int	keyring_drop_unused(int32 below);
extern void keyring_examine(KeyringStatus *status);

#endif
