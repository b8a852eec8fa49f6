/*
 * filter_provider.c
 *	  A provider for OpenSSL that has what the default provider has, but for what FILTERED_OUT names in the
 *	  environment, like "SHA1 AES-256-GCM".
 *
 * Part of the unit tests, and by itself a module that OpenSSL's configuration can name.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/provider.h>

#define MOST_ALGORITHMS 400

extern OSSL_provider_init_fn OSSL_provider_init;

static OSSL_LIB_CTX *context;
static OSSL_PROVIDER *whole;

/* Whether a name of the algorithm, of those between colons, is among those left out, between blanks. */
static bool
is_left_out(const char *names)
{
	const char *left_out = getenv("FILTERED_OUT");
	size_t		length;

	for (; left_out != NULL && *left_out != '\0'; left_out += length + (left_out[length] == ' '))
	{
		length = strcspn(left_out, " ");
		for (const char *name = names;; name++)
		{
			size_t		name_length = strcspn(name, ":");

			if (name_length == length && strncmp(name, left_out, length) == 0)
				return true;
			name += name_length;
			if (*name == '\0')
				break;
		}
	}
	return false;
}

static const OSSL_ALGORITHM *
query(void *provider, int operation, int *no_cache)
{
	static OSSL_ALGORITHM left[OSSL_OP__HIGHEST + 1][MOST_ALGORITHMS + 1];
	const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation, no_cache);
	int			count = 0;

	(void) provider;
	if (all == NULL || operation > OSSL_OP__HIGHEST)
		return NULL;
	for (; all->algorithm_names != NULL && count < MOST_ALGORITHMS; all++)
	{
		if (!is_left_out(all->algorithm_names))
			left[operation][count++] = *all;
	}
	return left[operation];
}

static void
end(void *provider)
{
	(void) provider;
	(void) OSSL_PROVIDER_unload(whole);
	OSSL_LIB_CTX_free(context);
}

static const OSSL_DISPATCH dispatch[] = {
	{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*) (void)) query},
	{OSSL_FUNC_PROVIDER_TEARDOWN, (void (*) (void)) end},
	{0, NULL}
};

int
OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provider)
{
	(void) handle;
	(void) in;
	context = OSSL_LIB_CTX_new();
	whole = context == NULL ? NULL : OSSL_PROVIDER_load(context, "default");
	if (whole == NULL)
		return 0;
	*provider = OSSL_PROVIDER_get0_provider_ctx(whole);
	*out = dispatch;
	return 1;
}
