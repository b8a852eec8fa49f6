/*
 * retry.c
 *	  Repeated calls: a client_token makes the second one an answer, not another rotation.
 *
 * The token is reserved before anything else is changed, by inserting its row in the transaction of the call
 * itself.  So of two concurrent calls the second waits for the first, and then finds its result or, if it
 * failed or was rolled back, a free token.  Checking first and inserting later would let both rotate.
 *
 * A repetition only reads: it locks no credential, so it neither waits for a rotation nor blocks others.
 *
 * A token is found by its caller's name, and answered only if the OID also agrees.  With the OID alone, after
 * a restore into a cluster with other OIDs the caller's retry would rotate again, and another role's first
 * use would be refused; with the name alone, a new role with the name of a dropped one would be answered.  In a
 * Citus cluster the name alone counts, as it does for owners.
 *
 * A given secret is compared with the unsealed secret that the first call set, never with a stored hash,
 * because a hash would allow anyone who can read it to test guesses.  A secret that has been replaced by a
 * later rotation can neither be compared nor returned, and is an error.
 */
#include "core/retry.h"

#include "core/credential.h"
#include "store/retry_statements.h"
#include "store/tables.h"
#include "base/errors.h"

/* The row that this call makes, or compares with the one that is there. */
static TokenRow
describe_call(const Request *request)
{
	const Arguments *arguments = &request->arguments;
	TokenRow	token = {0};

	token.caller = request->logged_caller;
	strlcpy(token.client_token, arguments->client_token, sizeof(token.client_token));
	token.request_id = request->id;
	strlcpy(token.action, request->action->name, sizeof(token.action));
	strlcpy(token.target, request->target, sizeof(token.target));
	strlcpy(token.new_app_key, arguments->new_app_key, sizeof(token.new_app_key));
	token.grace = arguments->grace;
	token.from_first_use = arguments->from_first_use;
	token.secret_given = request->secret.length > 0;
	token.created_at = request->started_at;
	return token;
}

static bool
is_same_call(const TokenRow *a, const TokenRow *b)
{
	return strcmp(a->action, b->action) == 0 && strcmp(a->target, b->target) == 0 &&
		strcmp(a->new_app_key, b->new_app_key) == 0 && a->grace == b->grace &&
		a->from_first_use == b->from_first_use && a->secret_given == b->secret_given;
}

/*
 * Opens the secret that the first call set, into request->current.  Raises 22023 if a later rotation has
 * replaced it.
 */
static void
open_first_secret(Request *request, CredentialKind kind, const TokenRow *first)
{
	const char *identifier = first->new_app_key[0] ? first->new_app_key : first->target;
	Credential *credential = &request->credential;

	if (!credential_look_up(kind, identifier, credential) || credential->secret.length == 0 ||
		credential->version != first->version)
		error_token_superseded();
	credential_open(credential, &request->current);
}

/*
 * Checks the rights on the credential of the first call.  The row of an AppKey or ZoneId is never deleted,
 * and contains the current owner of the app or zone.
 */
static void
require_rights(Request *request, CredentialKind kind)
{
	if (!credential_look_up(kind, request->target, &request->credential))
		error_no_such(kind, request->target);
	credential_require_rights(request->caller, &request->credential);
}

/*
 * Whether the request repeats one that the caller made with the same client_token.  If so, it is given that
 * request's id to answer with and, if the answer or a comparison needs it, that request's secret, and nothing
 * is left to do.  Otherwise the token, if there is one, is reserved for it.  Raises 22023 if the two calls
 * differ or the first one's secret has been replaced, and 42501 if the caller has lost its rights or only has
 * the same name as the role that made the first call.
 */
bool
retry_is_repetition(Request *request, CredentialKind kind)
{
	bool		answers_secret = kind == CREDENTIAL_ZONE && request->secret.length == 0;
	TokenRow	call;
	TokenRow	first;

	if (request->arguments.client_token[0] == '\0')
		return false;
	call = describe_call(request);
	if (retry_statements_reserve(&call))
		return false;
	if (!retry_statements_find(call.caller.name, call.client_token, &first))
	{
		/* Forgotten just now, or a trigger keeps it from being written. */
		if (retry_statements_reserve(&call))
			return false;
		error_not_written("retry");
	}

	if (first.caller.oid != request->caller && !tables_are_distributed())
		error_token_of_namesake();
	if (!is_same_call(&call, &first))
		error_token_used();
	require_rights(request, kind);
	if (call.secret_given || answers_secret)
		open_first_secret(request, kind, &first);
	if (call.secret_given && !secret_equal(&request->secret, &request->current))
		error_token_used();
	if (answers_secret)
		request->secret = request->current;
	request->retry_of = first.request_id;
	request->is_repetition = true;
	return true;
}

/* Completes a token that retry_is_repetition() reserved, with the version that the call made or found. */
void
retry_remember(const Request *request, int32 version)
{
	if (request->arguments.client_token[0] != '\0')
		retry_statements_finish(request->logged_caller.name, request->arguments.client_token, version);
}
