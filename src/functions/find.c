/*
 * find.c
 *	  Finds the credential that a leaked secret belongs to: every sealed secret is opened and compared.
 *
 * Why not store a hash of each secret in an index?  It would allow anyone who can read it to test guesses, in
 * each backup and on each standby.
 */
#include "functions/function.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "core/argument.h"
#include "core/credential.h"
#include "core/grace.h"
#include "core/lifetime.h"
#include "core/rights.h"
#include "store/rows.h"


/* The secret that is searched for, and the caller. */
typedef struct Search
{
	Request    *request;
	const Secret *wanted;
	Secret		opened;
} Search;

/* Reads the secret in both of its forms; where it does not have a form, that secret is empty. */
static void
read_secret(Request *request)
{
	argument_require(request->fcinfo, 0, PARAM_SECRET);
	argument_any_secret(request->fcinfo, 0, &request->secret, &request->current);
}

static void
put_found(Search *search, const Credential *credential, int32 version, const char *state)
{
	ReturnSetInfo *result = (ReturnSetInfo *) search->request->fcinfo->resultinfo;
	Datum		row[] = {
		CStringGetTextDatum(credential->kind == CREDENTIAL_APP ? "app" : "zone"),
		CStringGetTextDatum(credential->identifier),
		Int32GetDatum(version),
		CStringGetTextDatum(credential->disabled_at != NO_TIME ? "disabled" : state),
	};
	bool		nulls[lengthof(row)] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
}

/* Whether the sealed secret is the one searched for, and the caller may know it. One that cannot be opened is not. */
static bool
is_wanted(Search *search, const Credential *credential, const Sealed *sealed, int32 version)
{
	CryptoStatus status = credential_try_open(credential, sealed, version, &search->opened);
	bool		equal = status == CRYPTO_OK && secret_equal(&search->opened, search->wanted);

	secret_wipe(&search->opened);
	if (status != CRYPTO_OK && status != CRYPTO_REFUSED)
		error_crypto(status);
	return equal &&
		rights_over(search->request->caller, credential->owner, credential->owner_name) == RIGHTS_GRANTED;
}

static void
examine(const Credential *credential, void *reader_state)
{
	Search	   *search = reader_state;
	int32		previous_version = credential_previous_version(credential);

	if (credential->secret.length > 0 && is_wanted(search, credential, &credential->secret, credential->version))
		put_found(search, credential, credential->version, lifetime_is_over(credential) ? "expired" : "current");
	if (credential->previous_secret.length > 0 && grace_runs(credential) &&
		is_wanted(search, credential, &credential->previous_secret, previous_version))
		put_found(search, credential, previous_version, "retiring");
}

static void
search_table(Request *request, CredentialKind kind, const Secret *wanted)
{
	Search		search = {.request = request, .wanted = wanted};

	if (wanted->length == 0)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	rows_read_credentials(kind, GetActiveSnapshot(), examine, &search);
	PopActiveSnapshot();
}

static void
find_secret(Request *request)
{
	search_table(request, CREDENTIAL_APP, &request->secret);
	search_table(request, CREDENTIAL_ZONE, &request->current);
}

/* find_secret(secret, OUT kind, OUT id, OUT version, OUT state) */
ROWS_FUNCTION(find_secret, REQUEST_OF_ADMINISTRATION, read_secret, find_secret);
