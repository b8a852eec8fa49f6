/*
 * units.h
 *	  What the files of the unit tests share.
 */
#ifndef KEYROT_UNITS_H
#define KEYROT_UNITS_H

#include "crypto/seal.h"
#include "crypto/secret.h"

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

/* units.c */
#define SEALED_LENGTH	(16 + SEAL_OVERHEAD)
extern const SealBinding binding;
extern const char plain[];
extern void ok(bool good, const char *name);
extern bool is_zero(const void *bytes, size_t length);
extern bool equals_hex(const uint8_t *bytes, size_t length, const char *hex);
extern CryptoKey *key_of(int byte);
extern void seal_plain(CryptoKey *key, uint8_t sealed[SEALED_LENGTH]);
extern bool opens(CryptoKey *key, const uint8_t *sealed);
extern bool mac_is(CryptoHash hash, const void *key, size_t key_length,
				   const void *message, size_t length, const char *expected);

/* exhaustion.c */
extern bool in_child(bool (*test) (int), int argument);
extern void exhaustion_tests_before_use(void);
extern void exhaustion_tests(void);

/* arena.c */
extern void arena_tests(void);

/* neighbours.c */
extern void neighbour_tests_before_use(void);
extern void neighbour_tests(void);

/* memory.c */
extern void memory_tests(void);

/* master_text.c */
extern void master_text_tests(void);

/* jwt.c */
extern void jwt_tests(void);

/* clean.c */
extern void clean_tests(void);

/* values.c */
extern void value_tests(void);

#endif
