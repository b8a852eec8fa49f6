/*
 * master_text.h
 *	  Master keys as text: 64 hex digits a line, the current key first.
 */
#ifndef KEYROT_MASTER_TEXT_H
#define KEYROT_MASTER_TEXT_H

#include "crypto/crypto.h"

#define KEYFILE_MAX_KEYS			32
#define KEYFILE_MAX_BYTES			4096
#define KEYFILE_DIGITS				(2 * CRYPTO_KEY_BYTES)
#define KEYFILE_FINGERPRINT_BYTES	8
#define KEYFILE_FINGERPRINT_DIGITS	(2 * KEYFILE_FINGERPRINT_BYTES)

typedef struct MasterKey
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	uint8_t		fingerprint[KEYFILE_FINGERPRINT_BYTES];
} MasterKey;

typedef struct MasterKeys
{
	int			count;
	MasterKey	keys[KEYFILE_MAX_KEYS];
} MasterKeys;

typedef enum KeyfileStatus
{
	KEYFILE_OK = 0,
	KEYFILE_EMPTY,
	KEYFILE_MALFORMED_LINE,
	KEYFILE_TOO_MANY_KEYS,
	KEYFILE_CRYPTO_FAILED
} KeyfileStatus;

extern KeyfileStatus keyfile_parse(const char *text, size_t length, MasterKeys *keys, int *line);
extern void keyfile_format_key(const uint8_t raw[CRYPTO_KEY_BYTES], char digits[KEYFILE_DIGITS + 1]);
extern void keyfile_format_fingerprint(const uint8_t fingerprint[KEYFILE_FINGERPRINT_BYTES],
									   char digits[KEYFILE_FINGERPRINT_DIGITS + 1]);

#endif
