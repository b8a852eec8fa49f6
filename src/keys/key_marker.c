/*
 * key_marker.c
 *	  Which master keys this cluster depends on, noted in a file of the data directory.
 *
 * A key that was lost must not be replaced by a new one while values depend on it.  The database at hand
 * cannot tell what the others hold, so this file keeps the fingerprints in use: marker without key file is
 * an error, never a new key.  A fingerprint once noted stays; where there is no more room, the oldest goes.
 */
#include "keys/key_marker.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"

#include "keys/files.h"

#define MARKER_FILE "keyrot_master_key.marker"
#define MARKER_MAX_BYTES 4096
#define LINE_BYTES (MASTER_TEXT_FINGERPRINT_DIGITS + 1)

/* Reads the marker file; returns its length, 0 where there is none, -1 where it cannot be read. */
static ssize_t
read_marker(char contents[MARKER_MAX_BYTES])
{
	int			file = open(MARKER_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t		length;

	if (file < 0)
		return errno == ENOENT ? 0 : -1;
	length = files_read_all(file, contents, MARKER_MAX_BYTES);
	close(file);
	return length;
}

/* Whether some database of this cluster is known to depend on a master key; one that cannot be read tells so, too. */
bool
key_marker_exists(void)
{
	return access(MARKER_FILE, F_OK) == 0 || errno != ENOENT;
}

/* Whether this master key is noted. */
bool
key_marker_has(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES])
{
	char		contents[MARKER_MAX_BYTES + 1];
	char		digits[MASTER_TEXT_FINGERPRINT_DIGITS + 1];
	ssize_t		length = read_marker(contents);

	master_text_format_fingerprint(fingerprint, digits);
	contents[Max(length, 0)] = '\0';
	return strstr(contents, digits) != NULL;
}

/* Writes the marker file anew, with a line more. */
static bool
write_marker(const char *contents, size_t length, const char digits[MASTER_TEXT_FINGERPRINT_DIGITS + 1])
{
	static const char temporary[] = MARKER_FILE ".tmp";
	char		longer[MARKER_MAX_BYTES + LINE_BYTES];
	size_t		left_out = 0;

	while (length - left_out + LINE_BYTES > MARKER_MAX_BYTES)
		left_out += LINE_BYTES;
	length -= left_out;
	memcpy(longer, contents + left_out, length);
	memcpy(longer + length, digits, MASTER_TEXT_FINGERPRINT_DIGITS);
	longer[length + MASTER_TEXT_FINGERPRINT_DIGITS] = '\n';
	(void) unlink(temporary);
	return files_create(temporary, longer, length + LINE_BYTES) && files_replace(MARKER_FILE, temporary);
}

/*
 * Notes a master key, durably, before anything is wrapped by it; to be called under the cluster's lock
 * only.  False with what went wrong.
 */
bool
key_marker_add(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES], KeyProblem *problem)
{
	char		contents[MARKER_MAX_BYTES];
	char		digits[MASTER_TEXT_FINGERPRINT_DIGITS + 1];
	ssize_t		length;

	if (key_marker_has(fingerprint))
		return true;
	master_text_format_fingerprint(fingerprint, digits);
	length = read_marker(contents);
	if (length >= 0 && write_marker(contents, (size_t) length, digits))
		return true;
	problem_set(problem, "The server's user must be able to write in the data directory.",
				"could not note the master key in use in file \"%s/%s\": %m", DataDir, MARKER_FILE);
	return false;
}
