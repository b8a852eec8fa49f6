/*
 * session.h
 *	  What the judgement of a text depends on in this session: whether keyrot is installed, and what is prepared.
 */
#ifndef KEYROT_SESSION_H
#define KEYROT_SESSION_H

#include "log/names.h"
#include "base/compat.h"

extern void session_init(void);
extern void session_learn(void);
extern bool session_has_keyrot(void);
extern bool session_owns_function(unsigned function);
extern NamesText session_text(const char *text, size_t length);
extern NamesText session_text_in_hook(const char *text, size_t length);

#endif
