/*
 * grace.c
 *	  How long the previous version of a credential is kept: from the rotation on, or from the first use of the
 *	  version that replaced it.
 *
 * Where it begins with the first use, the row holds the bound, which is there from the start, and beside it the
 * grace period.  When the new version first verified is known in memory at once; the worker then makes it the
 * row's own end.  What memory has forgotten meanwhile, by a restart or for want of room, begins anew with the
 * next use: a previous version may so live longer than it had to, never beyond the bound, and never shorter.
 */
#include "core/grace.h"

#include "utils/timestamp.h"

#include "record/ledger.h"
#include "record/usage.h"
#include "base/settings.h"

static TimestampTz
end_after_use(const Credential *credential, TimestampTz first_use)
{
	return Min(credential->previous_valid_until, first_use + credential->grace_after_use);
}

static TimestampTz
first_use_of(const Credential *credential)
{
	return usage_first_use(credential->kind, credential->identifier, credential->version);
}

/* The end of the grace period, as far as it is known now; NO_TIME if there is none. */
static TimestampTz
grace_end(const Credential *credential)
{
	TimestampTz first_use;

	if (credential->previous_valid_until == NO_TIME || credential->grace_after_use == NO_GRACE_AFTER_USE)
		return credential->previous_valid_until;
	first_use = first_use_of(credential);
	return first_use == NO_TIME ? credential->previous_valid_until : end_after_use(credential, first_use);
}

/*
 * The end of the grace period of the version that a revert replaces; if the first use has not occurred, the period
 * begins now.
 */
TimestampTz
grace_end_at_revert(const Credential *credential, TimestampTz now)
{
	if (credential->grace_after_use != NO_GRACE_AFTER_USE && first_use_of(credential) == NO_TIME)
		return end_after_use(credential, now);
	return grace_end(credential);
}

/* Whether a previous version is in its grace period now, in the credential's row or in that of its old AppKey. */
bool
grace_runs(const Credential *credential)
{
	return credential->previous_valid_until != NO_TIME && GetCurrentTimestamp() < grace_end(credential);
}

/* Removes the previous version. */
void
grace_forget(Credential *credential)
{
	credential->previous_secret.length = 0;
	credential->previous_valid_until = NO_TIME;
	credential->grace_after_use = NO_GRACE_AFTER_USE;
}

/*
 * Makes a sealed secret the previous version until the given time or, if earlier, the end of its lifetime. An empty
 * secret stands for the one in the row of the old AppKey.
 */
void
grace_go_on(const Request *request, Credential *credential, const Sealed *secret, TimestampTz end)
{
	grace_forget(credential);
	if (credential->valid_until != NO_TIME)
		end = Min(end, credential->valid_until);
	if (end <= request->started_at)
		return;
	credential->previous_secret = *secret;
	credential->previous_valid_until = end;
	ledger_expect_expiry(end);
}

/* The same for the request's grace period, from the rotation or the first use. */
void
grace_begin(const Request *request, Credential *credential, const Sealed *secret)
{
	const Arguments *arguments = &request->arguments;
	int64		longest = arguments->from_first_use ? (int64) keyrot_max_grace * USECS_PER_SEC : arguments->grace;

	grace_go_on(request, credential, secret, request->started_at + longest);
	if (arguments->from_first_use && credential->previous_valid_until != NO_TIME)
		credential->grace_after_use = arguments->grace;
}
