/*
 * count.c
 *	  A library for LD_PRELOAD that counts what a server has OpenSSL do: values opened or sealed, and hashes.
 *	  355_same_work.pl builds it.
 *
 * The environment variable KEYROT_COUNT names a file of two numbers of 64 bits, in the machine's order, which
 * every process that has the variable maps.  Without the variable nothing is counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct Counts
{
	int64_t		ciphers;
	int64_t		hashes;
} Counts;

typedef int (*Final) (void *, unsigned char *, void *);

static Counts *counts;

__attribute__((constructor)) static void
map_counts(void)
{
	const char *path = getenv("KEYROT_COUNT");
	int			file;
	void	   *map;

	if (path == NULL || (file = open(path, O_RDWR | O_CLOEXEC)) < 0)
		return;
	map = mmap(NULL, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	(void) close(file);
	if (map != MAP_FAILED)
		counts = map;
}

int			EVP_CipherFinal_ex(void *context, unsigned char *output, void *length);
int			EVP_DigestFinal_ex(void *context, unsigned char *output, void *length);

/* Ends the use of one sealed value. */
int
EVP_CipherFinal_ex(void *context, unsigned char *output, void *length)
{
	static Final real;

	if (real == NULL)
		real = (Final) dlsym(RTLD_NEXT, "EVP_CipherFinal_ex");
	if (counts != NULL)
		counts->ciphers++;
	return real(context, output, length);
}

/* Ends one hash; an HMAC is two. */
int
EVP_DigestFinal_ex(void *context, unsigned char *output, void *length)
{
	static Final real;

	if (real == NULL)
		real = (Final) dlsym(RTLD_NEXT, "EVP_DigestFinal_ex");
	if (counts != NULL)
		counts->hashes++;
	return real(context, output, length);
}
