/*
 * uuid7.h
 *	  RequestIds: UUID version 7 (RFC 9562), ordered within a session.
 */
#ifndef KEYROT_UUID7_H
#define KEYROT_UUID7_H

#include "crypto/crypto.h"

#define UUID7_BYTES			16
#define UUID7_RANDOM_BYTES	8
#define UUID7_TEXT			37	/* with its end */
#define UUID7_END			(INT64_C(1) << 48)	/* milliseconds since 1970 that no id can hold */

extern CryptoStatus uuid7_make(int64_t unix_microseconds, CryptoDraw *draw, uint8_t uuid[UUID7_BYTES]);
extern void uuid7_floor(int64_t unix_microseconds, uint8_t uuid[UUID7_BYTES]);
extern int64_t uuid7_time(const uint8_t uuid[UUID7_BYTES]);
extern void uuid7_to_text(const uint8_t uuid[UUID7_BYTES], char text[UUID7_TEXT]);

#endif
