/*
 * encoding.c
 *	  Converts between the database's encoding and UTF-8, which clients hash and JSON uses.
 *
 * PostgreSQL's own conversions raise an error for text that cannot be converted; these functions report it as
 * a result.
 */
#include "core/encoding.h"

#include <limits.h>

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

static bool
is_ascii(Bytes text)
{
	for (size_t i = 0; i < text.length; i++)
		if (IS_HIGHBIT_SET(text.bytes[i]))
			return false;
	return true;
}

/* Converts into memory of the current context; false if a character has no equivalent. */
static bool
convert(Bytes text, int from, int to, Bytes *converted)
{
	size_t		room = text.length * MAX_CONVERSION_GROWTH + 1;
	Oid			conversion = FindDefaultConversionProc(from, to);
	char	   *buffer;

	if (!OidIsValid(conversion))
		return false;
	buffer = MemoryContextAllocHuge(CurrentMemoryContext, room);
	if (pg_do_encoding_conversion_buf(conversion, from, to, (unsigned char *) text.bytes, (int) text.length,
									  (unsigned char *) buffer, (int) Min(room, INT_MAX), true) < (int) text.length)
		return false;
	*converted = (Bytes) {buffer, strlen(buffer)};
	return true;
}

/* Text of the database as UTF-8; the same bytes if no conversion is needed. Returns whether it can be converted. */
bool
encoding_to_utf8(Bytes text, Bytes *utf8)
{
	int			encoding = GetDatabaseEncoding();

	*utf8 = text;
	if (encoding == PG_UTF8 || is_ascii(text))
		return true;
	if (encoding == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, text.bytes, (int) text.length, true);
	return convert(text, encoding, PG_UTF8, utf8);
}

/*
 * Text from a client that should be UTF-8, in the database's encoding; the same bytes if no conversion is
 * needed.  Returns whether it is UTF-8 and can be converted.
 */
bool
encoding_from_utf8(Bytes utf8, Bytes *text)
{
	int			encoding = GetDatabaseEncoding();

	*text = utf8;
	if (is_ascii(utf8))
		return memchr(utf8.bytes, '\0', utf8.length) == NULL;
	if (!pg_verify_mbstr(PG_UTF8, utf8.bytes, (int) utf8.length, true))
		return false;
	return encoding == PG_UTF8 || encoding == PG_SQL_ASCII || convert(utf8, PG_UTF8, encoding, text);
}
