/*
 * encoding.h
 *	  Text in UTF-8, as clients have it, and in the database's encoding.
 */
#ifndef KEYROT_ENCODING_H
#define KEYROT_ENCODING_H

#include "base/compat.h"

#include "core/argument.h"

extern bool encoding_to_utf8(Bytes text, Bytes *utf8);
extern bool encoding_from_utf8(Bytes utf8, Bytes *text);

#endif
