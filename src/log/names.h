/*
 * names.h
 *	  Which names in an SQL text call a function that takes a secret, and which parameters are public.
 */
#ifndef KEYROT_NAMES_H
#define KEYROT_NAMES_H

#include <stdbool.h>
#include <stddef.h>

extern bool names_are_equal(const char *name, const char *lower_name);
extern bool names_take_secret(const char *qualifier, const char *name);
extern bool names_parameter_is_public(const char *name);
extern bool names_word_is_plain(const char *word);
extern bool names_is_secret_function(const char *name, size_t length);
extern bool names_word_is_type(const char *word);
extern bool names_word_declares(const char *word);
extern bool names_other_language_occurs(const char *text, size_t length);
extern bool names_may_occur(const char *text, size_t length);
extern bool names_call_occurs(const char *text, size_t length);
extern bool names_mention_occurs(const char *text, size_t length);
extern bool names_execution_occurs(const char *text, size_t length, bool (*takes_secret) (const char *));

#endif
