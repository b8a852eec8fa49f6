/*
 * retry.c
 *	  Repeated calls: a client_token makes the second one an answer, not another rotation.
 *
 * The token is reserved before anything else is touched, by inserting its row in the transaction of the
 * call itself.  So of two calls at once the second waits for the first, then finds what it did, or, where
 * that failed or was rolled back, a token that is free.  Looking first and inserting later would let both
 * rotate.
 *
 * A repetition only looks: it locks no credential, and so waits for no rotation and stands in nobody's way.
 *
 * A token is found by its caller's name and answered where the OID agrees, too.  By the OID alone, a restore into
 * a cluster with other OIDs would let the caller's retry rotate again, and refuse somebody else's first use; by the
 * name alone, whoever is given a dropped role's name would be answered.
 *
 * A given secret is compared with what the first call set, opened, never by a stored hash: whoever could
 * read that would have something to guess against.  What a newer rotation has replaced can neither be
 * compared nor be answered, and is an error.
 */
#include "core/retry.h"

#include "core/credential.h"
#include "store/retry_statements.h"
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
 * Opens what the first call set, into request->current.  Raises 22023 where a newer rotation has replaced
 * it.
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
 * Checks the rights to what the first call was about.  The row of an AppKey or ZoneId stays for all time,
 * and with it the owner that the app or zone has now.
 */
static void
require_rights(Request *request, CredentialKind kind)
{
	if (!credential_look_up(kind, request->target, &request->credential))
		error_no_such(kind, request->target);
	credential_require_rights(request->caller, &request->credential);
}

/*
 * Whether the request repeats one that the caller made with the same client_token.  It then has that
 * one's id to answer with and, where the answer or a comparison needs it, that one's secret; nothing is
 * left to do.  Else the token, if there is one, is reserved for it.  Raises 22023 where the two calls
 * differ or the first one's secret was replaced since, and 42501 where the caller has lost its rights or only has
 * the name of who made the first call.
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
		error_concurrent_update();

	if (first.caller.oid != request->caller)
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
