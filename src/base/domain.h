/*
 * domain.h
 *	  What marks a report as keyrot's own: its text domain, which no other library has.
 *
 * The redaction of the log lets the reports of errors.h and notices.h through by it, since they repeat public
 * names and nothing else.  There are no translations in that domain, so messages stay as they are written.
 */
#ifndef KEYROT_DOMAIN_H
#define KEYROT_DOMAIN_H

#include "base/compat.h"

#define KEYROT_DOMAIN "keyrot"

#undef TEXTDOMAIN
#define TEXTDOMAIN KEYROT_DOMAIN

#endif
