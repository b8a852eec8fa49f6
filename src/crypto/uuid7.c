/*
 * uuid7.c
 *	  RequestIds: UUID version 7 (RFC 9562), each greater than the one before it in this process.
 *
 * Owns the time of the last id.  The caller reads the clock.
 *
 * Why not milliseconds and 74 random bits?  Two requests within one millisecond would then sort randomly, and
 * after a clock was set back a later request would sort before an earlier one.  So the twelve bits after the
 * milliseconds contain their fraction (the RFC's method 3), and the time of an id is always at least one step
 * of 1/4096 ms after that of the last one.
 */
#include "crypto/uuid7.h"

#include <stdio.h>
#include <string.h>

#define TIME_BITS		60		/* 48 of milliseconds, 12 of their fraction */
#define FRACTION_BITS	12

static uint64_t last_time;

/* Microseconds since 1970 as milliseconds and fraction, rounded up, so that uuid7_time() undoes it; before 1970 is 1970. */
static uint64_t
time_of(int64_t unix_microseconds)
{
	uint64_t	clock = unix_microseconds > 0 ? (uint64_t) unix_microseconds : 0;

	return (clock / 1000) << FRACTION_BITS | (((clock % 1000) << FRACTION_BITS) + 999) / 1000;
}

/* Writes a time into a UUID of version 7, and zeros where the random bits go. */
static void
write_time(uint64_t time, uint8_t uuid[UUID7_BYTES])
{
	memset(uuid, 0, UUID7_BYTES);
	for (int i = 0; i < 6; i++)
		uuid[i] = (uint8_t) (time >> (52 - 8 * i));
	uuid[6] = (uint8_t) (0x70 | (time >> 8 & 0x0f));
	uuid[7] = (uint8_t) time;
}

/*
 * Writes a new UUID of that time (microseconds since 1970), with its 62 random bits from the draw.  On
 * failure it is not written.  The milliseconds have room until the year 10889, and begin again then.
 */
CryptoStatus
uuid7_make(int64_t unix_microseconds, CryptoDraw *draw, uint8_t uuid[UUID7_BYTES])
{
	uint8_t		random[UUID7_RANDOM_BYTES];
	uint64_t	time = time_of(unix_microseconds) & ((UINT64_C(1) << TIME_BITS) - 1);
	CryptoStatus status = crypto_take(draw, random, sizeof(random));

	if (status != CRYPTO_OK)
		return status;
	if (time <= last_time)
		time = (last_time + 1) & ((UINT64_C(1) << TIME_BITS) - 1);
	last_time = time;
	write_time(time, uuid);
	for (int i = 0; i < UUID7_RANDOM_BYTES; i++)
		uuid[8 + i] = random[i];
	uuid[8] = (uint8_t) (0x80 | (random[0] & 0x3f));
	return CRYPTO_OK;
}

/* Writes the smallest id of that time (microseconds since 1970): no id of that time or later is less. */
void
uuid7_floor(int64_t unix_microseconds, uint8_t uuid[UUID7_BYTES])
{
	write_time(time_of(unix_microseconds), uuid);
	uuid[8] = 0x80;
}

/* The time of an id, in whole microseconds since 1970; -1 for a UUID that is none of version 7. */
int64_t
uuid7_time(const uint8_t uuid[UUID7_BYTES])
{
	int64_t		milliseconds = 0;
	int64_t		fraction = (uuid[6] & 0x0f) << 8 | uuid[7];

	if ((uuid[6] & 0xf0) != 0x70 || (uuid[8] & 0xc0) != 0x80)
		return -1;
	for (int i = 0; i < 6; i++)
		milliseconds = milliseconds << 8 | uuid[i];
	return milliseconds * 1000 + (fraction * 1000 >> FRACTION_BITS);
}

/* Writes a UUID as text, in lower case, with its end. */
void
uuid7_to_text(const uint8_t uuid[UUID7_BYTES], char text[UUID7_TEXT])
{
	const uint8_t *b = uuid;

	(void) snprintf(text, UUID7_TEXT,
					"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
					b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
					b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}
