/*
 * master_text.h
 *	  Master keys as text: 64 hex digits per line, the current key first.
 */
#ifndef KEYROT_MASTER_TEXT_H
#define KEYROT_MASTER_TEXT_H

#include "crypto/crypto.h"

#define MASTER_TEXT_MAX_KEYS			32
#define MASTER_TEXT_MAX_BYTES			4096
#define MASTER_TEXT_DIGITS				(2 * CRYPTO_KEY_BYTES)
#define MASTER_TEXT_FINGERPRINT_BYTES	8
#define MASTER_TEXT_FINGERPRINT_DIGITS	(2 * MASTER_TEXT_FINGERPRINT_BYTES)

typedef struct MasterKey
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	uint8_t		fingerprint[MASTER_TEXT_FINGERPRINT_BYTES];
} MasterKey;

typedef struct MasterKeys
{
	int			count;
	MasterKey	keys[MASTER_TEXT_MAX_KEYS];
} MasterKeys;

typedef enum MasterTextStatus
{
	MASTER_TEXT_OK = 0,
	MASTER_TEXT_EMPTY,
	MASTER_TEXT_MALFORMED_LINE,
	MASTER_TEXT_TOO_MANY_KEYS,
	MASTER_TEXT_CRYPTO_FAILED
} MasterTextStatus;

extern MasterTextStatus master_text_parse(const char *text, size_t length, MasterKeys *keys, int *line);
extern void master_text_format_key(const uint8_t raw[CRYPTO_KEY_BYTES], char digits[MASTER_TEXT_DIGITS + 1]);
extern void master_text_format_fingerprint(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES],
										   char digits[MASTER_TEXT_FINGERPRINT_DIGITS + 1]);

#endif
