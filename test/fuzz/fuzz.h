/*
 * fuzz.h
 *	  What the fuzzers share: libFuzzer's bytes, taken piece by piece, and the end of a run that found
 *	  something.
 *
 * Where the bytes end, zeros are taken, so that every input means something.
 */
#ifndef KEYROT_FUZZ_H
#define KEYROT_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

typedef struct Input
{
	const uint8_t *bytes;
	size_t		left;
} Input;

extern int	LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* Ends the run where an expectation does not hold; libFuzzer then keeps the input. */
#define expect(good, what) \
	do { \
		if (!(good)) \
		{ \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, what); \
			abort(); \
		} \
	} while (0)

/* How often each of the two ends was reached, which is told when the run ends. */
static struct
{
	size_t		count[2];
	const char *name[2];
}			ends;

static inline void
tell_ends(void)
{
	fprintf(stderr, "reached: %zu %s, %zu %s\n", ends.count[1], ends.name[1], ends.count[0], ends.name[0]);
}

/* Counts that an input came to the one end or the other; both have to be reached in a run. */
static inline void
count_end(bool which, const char *name_if_true, const char *name_if_false)
{
	if (ends.name[0] == NULL && atexit(tell_ends) != 0)
		abort();
	ends.name[1] = name_if_true;
	ends.name[0] = name_if_false;
	ends.count[which]++;
}

static inline uint8_t
take_byte(Input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->bytes++;
}

/* A number below the limit, which is at most 65536. */
static inline size_t
take_number(Input *input, size_t limit)
{
	size_t		high = take_byte(input);

	return (high << 8 | take_byte(input)) % limit;
}

/* Up to limit bytes in memory of their own size, so that a sanitizer sees what is read past their end. */
static inline uint8_t *
take_bytes(Input *input, size_t limit, size_t *length)
{
	size_t		count = limit < input->left ? limit : input->left;
	uint8_t    *copy = malloc(count > 0 ? count : 1);

	if (copy == NULL)
		abort();
	if (count > 0)
		memcpy(copy, input->bytes, count);
	input->bytes += count;
	input->left -= count;
	*length = count;
	return copy;
}

#endif
