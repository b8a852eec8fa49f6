/*
 * rotation.c
 *	  A credential's next version, under the same AppKey or ZoneId: read, judged, sealed, written.
 *
 * The row is not locked before it is written.  Where another transaction turns out to have changed it meanwhile, the
 * version is made anew from what that one left, with the row locked: so concurrent rotations each make a version of
 * their own.  Whatever is made here must therefore leave the request so that it can be made again.
 */
#include "core/rotation.h"

#include "core/credential.h"
#include "base/errors.h"

/*
 * Makes the next version from the credential as it was read; if another row must be written, too, only if this one is
 * locked.
 */
static ChangeResult
make_version(Credential *credential, void *state)
{
	Request    *request = state;
	Arguments  *arguments = &request->arguments;
	int64		grace = arguments->grace;
	bool		from_first_use = arguments->from_first_use;

	if (credential_has_predecessor_in_grace(credential) && !credential->is_locked)
		return CHANGE_NEEDS_LOCK;
	credential_end_predecessor_grace(credential);
	credential_renew(request, credential);
	arguments->grace = grace;
	arguments->from_first_use = from_first_use;
	return CHANGE_MADE;
}

/* Another transaction may have set the secret after a version was made here. */
static ChangeResult
make_version_unless_set(Credential *credential, void *state)
{
	request_forget_version(state);
	return credential_has_secret(state) ? CHANGE_NONE : make_version(credential, state);
}

static void
change(Request *request, CredentialKind kind, ChangeResult (*make) (Credential *, void *))
{
	CredentialChange change = {
		.kind = kind,
		.judge = credential_judge_current,
		.caller = request->caller,
		.make = make,
		.state = request,
	};

	if (!rows_change_credential(request->target, &change, &request->credential))
		error_no_such(kind, request->target);
}

/*
 * Rotates the request's credential to the request's secret, given or generated. Raises P0002 and 42501 as
 * credential_find() does, 22023 if the given secret is the current one, and 40001 if the transaction's snapshot
 * forbids using the state that another transaction left.
 */
void
rotation_rotate(Request *request, CredentialKind kind)
{
	change(request, kind, make_version);
}

/* The same, but changes nothing if the given secret is the current one. */
void
rotation_set(Request *request, CredentialKind kind)
{
	change(request, kind, make_version_unless_set);
}
