/*
 * credential.c
 *	  The life of a credential, the same for apps and zones: issued, rotated, its previous version kept for
 *	  a grace period, opened, retired.
 *
 * This file is responsible for the order of a rotation's steps.  A secret is sealed before any row is
 * written, so that no dead tuple and no WAL ever contains plaintext.  The locked row of the credential itself
 * is written last.
 *
 * The previous version is stored in the same row after a rotation, one version below the row's; after a
 * NewAppKey, it is in the retired row of the old AppKey and has that row's version.  The successor's row then
 * contains the end of the grace period, but no previous secret, so that only a rotation that follows a
 * NewAppKey has to read a second row.
 */
#include "core/credential.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/grace.h"
#include "core/lifetime.h"
#include "core/rights.h"
#include "record/ledger.h"
#include "keys/keyring.h"
#include "store/app_statements.h"
#include "store/credential_statements.h"
#include "store/tables.h"
#include "base/settings.h"

static const Sealed nothing = {.length = 0};

/* What a version of this credential is sealed for. */
static SealBinding
binding_of(const Credential *credential, int32 version)
{
	return (SealBinding) {
		.kind = credential->kind,
		.identifier = credential->identifier,
		.identifier_length = strlen(credential->identifier),
		.version = (uint32) version,
	};
}

/* Raises 42501 unless the caller may act on this credential. */
void
credential_require_rights(Oid caller, const Credential *credential)
{
	switch (rights_over(caller, credential->owner, credential->owner_name))
	{
		case RIGHTS_GRANTED:
			return;
		case RIGHTS_NOT_OWNER:
			error_not_owner(credential->kind, credential->identifier);
			break;
		case RIGHTS_OWNER_CHANGED:
			if (tables_are_distributed())
				error_owner_unknown(credential->kind, credential->identifier);
			error_owner_changed(credential->kind, credential->identifier);
			break;
	}
}

/* Raises P0002 for a retired credential and 42501 for somebody else's. */
void
credential_judge_current(Oid caller, const Credential *credential)
{
	if (credential->secret.length == 0)
		error_no_such(credential->kind, credential->identifier);
	credential_require_rights(caller, credential);
}

/* Accepts every credential: the caller's rights were checked with another row. */
static void
judge_nothing(Oid caller pg_attribute_unused(), const Credential *credential pg_attribute_unused())
{
}

/* The version after the credential's; raises 54000 if there is none. */
static int32
next_version(const Credential *credential)
{
	if (credential->version == PG_INT32_MAX)
		error_no_more_versions(credential->kind, credential->identifier);
	return credential->version + 1;
}

/* Reads the current state of a credential, even a retired one; returns whether there is one. */
bool
credential_look_up(CredentialKind kind, const char *identifier, Credential *credential)
{
	bool		found;

	PushActiveSnapshot(GetTransactionSnapshot());
	found = rows_find_credential(kind, identifier, GetActiveSnapshot(), credential);
	PopActiveSnapshot();
	return found;
}

/*
 * Reads the current state of a credential that the caller may act on. Raises P0002 for an unknown or retired one, and
 * 42501 for somebody else's.
 */
void
credential_find(Oid caller, CredentialKind kind, const char *identifier, Credential *credential)
{
	if (!credential_look_up(kind, identifier, credential))
		error_no_such(kind, identifier);
	credential_judge_current(caller, credential);
}

/*
 * As credential_find(), for the request's target and into request->credential, and locks it against other writers
 * until the transaction ends. Waits for a lock, up to lock_timeout.
 */
void
credential_lock(Request *request, CredentialKind kind)
{
	if (!rows_lock_credential(kind, request->target, credential_judge_current, request->caller, &request->credential))
		error_no_such(kind, request->target);
}

/* Generates a secret of the credential's kind, if the caller gave none. */
static void
make_secret(Request *request, CredentialKind kind)
{
	CryptoStatus status;

	if (request->secret.length > 0)
		return;
	if (kind == CREDENTIAL_APP && keyrot_app_secret_prefix[0] != '\0')
		status = secret_make_prefixed_app_secret(&request->draw, keyrot_app_secret_prefix, &request->secret);
	else if (kind == CREDENTIAL_APP)
		status = secret_make_app_secret(&request->draw, &request->secret);
	else
		status = secret_make_secret_key(&request->draw, &request->secret);
	if (status != CRYPTO_OK)
		error_crypto(status);
	request->secret_made = true;
}

/* Seals the request's secret, given or generated, as the credential's current one. */
static void
seal_current(Request *request, Credential *credential)
{
	SealBinding binding = binding_of(credential, credential->version);
	uint8_t		nonce[CRYPTO_NONCE_BYTES];
	int32		key_id;
	CryptoKey  *key;
	CryptoStatus status;

	rows_lock_row_exclusive(credential->kind);
	key = keyring_current(&key_id);
	make_secret(request, credential->kind);
	status = crypto_take(&request->draw, nonce, sizeof(nonce));
	if (status == CRYPTO_OK)
		status = seal_secret(key, (uint32) key_id, &binding, nonce,
							 request->secret.bytes, request->secret.length, credential->secret.bytes);
	if (status != CRYPTO_OK)
		error_crypto(status);
	credential->secret.length = request->secret.length + SEAL_OVERHEAD;
	request->version = credential->version;
	request->changed = credential->kind;
}

/*
 * Fills in the request's credential as a new one: the caller's own, version 1, now, with the request's secret, given
 * or generated. The caller of this function must write its row.
 */
void
credential_issue(Request *request, CredentialKind kind, const char *identifier)
{
	Credential *credential = &request->credential;

	memset(credential, 0, sizeof(*credential));
	credential->kind = kind;
	strlcpy(credential->identifier, identifier, sizeof(credential->identifier));
	credential->version = 1;
	credential->owner = request->caller;
	strlcpy(credential->owner_name, GetUserNameFromId(request->caller, false), sizeof(credential->owner_name));
	credential->previous_valid_until = NO_TIME;
	credential->grace_after_use = NO_GRACE_AFTER_USE;
	credential->disabled_at = NO_TIME;
	credential->valid_until = NO_TIME;
	credential->due_at = NO_TIME;
	credential->created_at = request->started_at;
	credential->modified_at = request->started_at;
	seal_current(request, credential);
}

/* Fills in a deleted credential as issued again: it keeps its owner, and its versions continue. */
void
credential_reissue(Request *request)
{
	Credential *credential = &request->credential;

	credential->version = next_version(credential);
	credential->created_at = request->started_at;
	credential->modified_at = request->started_at;
	seal_current(request, credential);
}

/*
 * Opens the secret that is to be replaced, into request->current; false if it cannot be opened. Raises 55000 if the
 * master key is missing or wrong.
 */
static bool
open_current(Request *request, const Credential *credential)
{
	CryptoStatus status = credential_try_open(credential, &credential->secret, credential->version, &request->current);

	if (status != CRYPTO_OK && status != CRYPTO_REFUSED)
		error_crypto(status);
	return status == CRYPTO_OK;
}

/* Whether the secret that the caller gave is the credential's current one. */
bool
credential_has_secret(Request *request)
{
	return open_current(request, &request->credential) && secret_equal(&request->secret, &request->current);
}

/*
 * Opens the secret that is to be replaced, if needed.  Refuses a given secret that is already the current
 * one.  A current secret that cannot be opened can be replaced by any other, and is not kept for a grace
 * period, because verification would fail on it.
 */
static void
examine_old_secret(Request *request, const Credential *credential)
{
	Arguments  *arguments = &request->arguments;

	if ((request->secret.length == 0 || request->secret_made) && arguments->grace == 0 && !arguments->from_first_use)
		return;
	if (!open_current(request, credential))
	{
		arguments->grace = 0;
		arguments->from_first_use = false;
	}
	else if (secret_equal(&request->secret, &request->current))
		error_same_secret();
}

/* Whether an AppKey that this one replaced may still be in grace. */
bool
credential_has_predecessor_in_grace(const Credential *credential)
{
	return credential->previous_app_key[0] != '\0' && credential->previous_secret.length == 0 &&
		credential->previous_valid_until != NO_TIME;
}

/* Locks the AppKey that this one replaced, if it may still be in its grace period; returns whether there is one. */
static bool
lock_predecessor(const Credential *credential, Credential *predecessor)
{
	return credential_has_predecessor_in_grace(credential) &&
		rows_lock_credential(CREDENTIAL_APP, credential->previous_app_key, judge_nothing, InvalidOid, predecessor);
}

/* Wipes the secret of an AppKey that this one replaced and that is still in its grace period. */
void
credential_end_predecessor_grace(const Credential *credential)
{
	Credential	predecessor;

	if (!lock_predecessor(credential, &predecessor))
		return;
	grace_forget(&predecessor);
	rows_write_credential(&predecessor);
}

/* Starts the lifetime of a new version now. */
static void
begin_version(Request *request, Credential *credential)
{
	request->rotated = true;
	credential->modified_at = request->started_at;
	lifetime_begin(credential);
}

/*
 * Makes the next version of a credential, with the request's secret, given or generated; raises 22023 if the given
 * one is the current secret. The caller must write the row.
 */
void
credential_renew(Request *request, Credential *credential)
{
	Sealed		old = credential->secret;

	examine_old_secret(request, credential);
	credential->version = next_version(credential);
	seal_current(request, credential);
	grace_begin(request, credential, &old);
	begin_version(request, credential);
}

/*
 * Gives an app its new AppKey and the request's secret, given or generated; the old AppKey is retired, or keeps
 * verifying with the old secret for the grace period. Raises 22023 if the given secret is the current one, and 23505
 * if the AppKey is taken.
 */
void
credential_succeed(Request *request)
{
	Credential *credential = &request->credential;
	Credential	successor = *credential;
	Sealed		old = credential->secret;

	examine_old_secret(request, credential);
	strlcpy(successor.identifier, request->arguments.new_app_key, sizeof(successor.identifier));
	successor.version = next_version(credential);
	seal_current(request, &successor);
	grace_begin(request, &successor, &nothing);
	begin_version(request, &successor);
	if (!app_statements_insert_successor(&successor, credential->identifier))
		error_app_key_taken(PARAM_NEW_APP_KEY, successor.identifier);

	credential_end_predecessor_grace(credential);
	credential->secret = nothing;
	grace_begin(request, credential, &old);
	credential->valid_until = NO_TIME;
	credential->due_at = NO_TIME;
	rows_write_credential(credential);
}

static void
set_disabled_at(Request *request, TimestampTz disabled_at)
{
	Credential *credential = &request->credential;
	Credential	predecessor;

	if (lock_predecessor(credential, &predecessor))
	{
		predecessor.disabled_at = disabled_at;
		rows_write_credential(&predecessor);
	}
	credential->disabled_at = disabled_at;
	rows_write_credential(credential);
	request->changed = credential->kind;
}

static void
require_end(TimestampTz start, const Interval *period, Parameter parameter)
{
	TimestampTz end;

	if (lifetime_is_period(period) && !lifetime_end(start, period, &end))
		error_malformed(parameter);
}

/*
 * Makes the previous version's secret current again, as a new version; the version that it replaces is valid for the
 * rest of the grace period, or for all of it if it had not begun. Raises 55000 if nothing is in its grace period, or
 * only under another AppKey, and XX001 if the previous secret cannot be opened.
 */
void
credential_revert(Request *request)
{
	Credential *credential = &request->credential;
	Sealed		replaced = credential->secret;
	int32		previous_version = credential_previous_version(credential);
	TimestampTz end = grace_end_at_revert(credential, request->started_at);
	CryptoStatus status;

	if (!grace_runs(credential))
		error_nothing_in_grace(credential->kind, credential->identifier);
	if (credential->previous_secret.length == 0)
		error_app_key_changed(credential->identifier);
	status = credential_try_open(credential, &credential->previous_secret, previous_version, &request->secret);
	if (status == CRYPTO_REFUSED)
		error_does_not_open(credential->kind, credential->identifier, previous_version);
	if (status != CRYPTO_OK)
		error_crypto(status);
	credential->version = next_version(credential);
	seal_current(request, credential);
	grace_go_on(request, credential, &replaced, end);
	begin_version(request, credential);
	rows_write_credential(credential);
}

/*
 * Disables the credential, and an AppKey of it that is in its grace period; changes nothing if it is already
 * disabled.
 */
void
credential_disable(Request *request)
{
	if (request->credential.disabled_at == NO_TIME)
		set_disabled_at(request, request->started_at);
}

/*
 * Enables the credential, and an AppKey of it that is in its grace period; changes nothing if it is already enabled.
 */
void
credential_enable(Request *request)
{
	if (request->credential.disabled_at != NO_TIME)
		set_disabled_at(request, NO_TIME);
}

static void
cap_grace(Credential *credential, TimestampTz end)
{
	if (credential->previous_valid_until != NO_TIME && end != NO_TIME)
		credential->previous_valid_until = Min(credential->previous_valid_until, end);
}

/*
 * Gives the credential the request's policy, which counts from its last rotation. A version in its grace period is
 * older, so its lifetime ends no later than the current one's. Raises 22023 for a period that ends out of the range
 * of timestamptz.
 */
void
credential_set_policy(Request *request)
{
	Credential *credential = &request->credential;
	Credential	predecessor;

	credential->policy = request->arguments.policy;
	require_end(credential->modified_at, &credential->policy.rotate_after, PARAM_ROTATE_AFTER);
	require_end(credential->modified_at, &credential->policy.lifetime, PARAM_LIFETIME);
	lifetime_begin(credential);
	if (lock_predecessor(credential, &predecessor))
	{
		cap_grace(&predecessor, credential->valid_until);
		rows_write_credential(&predecessor);
	}
	cap_grace(credential, credential->valid_until);
	if (credential->previous_valid_until != NO_TIME)
		ledger_expect_expiry(credential->previous_valid_until);
	rows_write_credential(credential);
	request->changed = credential->kind;
}

/* Makes the credential's previous version, if there is one, invalid at once. */
void
credential_end_grace(Request *request)
{
	Credential *credential = &request->credential;

	if (credential->previous_valid_until == NO_TIME)
		return;
	credential_end_predecessor_grace(credential);
	grace_forget(credential);
	rows_write_credential(credential);
	request->changed = credential->kind;
}

/* Retires the credential, including its previous version. Its row is kept. */
void
credential_retire(Request *request)
{
	Credential *credential = &request->credential;

	credential_end_predecessor_grace(credential);
	credential->secret = nothing;
	grace_forget(credential);
	credential->valid_until = NO_TIME;
	credential->due_at = NO_TIME;
	rows_write_credential(credential);
	request->changed = credential->kind;
}

/* Transfers the credential to its new owner; raises 42501 unless the caller has that role's rights. */
void
credential_set_owner(Request *request)
{
	const Arguments *arguments = &request->arguments;

	if (!has_privs_of_role(request->caller, arguments->owner))
		error_not_member(arguments->owner_name);
	credential_statements_set_owner(&request->credential, arguments->owner, arguments->owner_name);
}

/* The version that the previous secret in a credential's row was sealed for. */
int32
credential_previous_version(const Credential *credential)
{
	return credential->secret.length > 0 ? credential->version - 1 : credential->version;
}

/*
 * Opens one of a credential's sealed secrets, which the caller must wipe. Returns CRYPTO_REFUSED if it was not sealed
 * for this credential and version; raises 55000 if the master key is missing or wrong.
 */
CryptoStatus
credential_try_open(const Credential *credential, const Sealed *sealed, int32 version, Secret *secret)
{
	SealBinding binding = binding_of(credential, version);
	uint32_t	key_id;
	CryptoKey  *key;

	if (!seal_read_key_id(sealed->bytes, sealed->length, &key_id))
		return CRYPTO_REFUSED;
	key = keyring_find((int32) key_id);
	if (key == NULL)
		return CRYPTO_REFUSED;
	return seal_open(key, &binding, sealed->bytes, sealed->length,
					 secret->bytes, sizeof(secret->bytes), &secret->length);
}

/* Raises 55000 for a credential that is disabled, or whose current version has expired. */
void
credential_require_usable(const Credential *credential)
{
	if (credential->disabled_at != NO_TIME)
		error_disabled(credential->kind, credential->identifier);
	if (lifetime_is_over(credential))
		error_expired(credential->kind, credential->identifier);
}

/* Opens a credential's current secret, which the caller must wipe; raises XX001 if it cannot be opened. */
void
credential_open(const Credential *credential, Secret *secret)
{
	CryptoStatus status = credential_try_open(credential, &credential->secret, credential->version, secret);

	if (status == CRYPTO_REFUSED)
		error_does_not_open(credential->kind, credential->identifier, credential->version);
	if (status != CRYPTO_OK)
		error_crypto(status);
}

/*
 * Seals one of a credential's secrets with the current data key, unless it already is, and sets that it did; false if
 * it cannot be opened.
 */
static bool
reseal_version(const Credential *credential, int32 version, Sealed *sealed, bool *changed)
{
	SealBinding binding = binding_of(credential, version);
	uint8_t		nonce[CRYPTO_NONCE_BYTES];
	uint32_t	sealed_by;
	int32		key_id;
	CryptoKey  *key = keyring_current(&key_id);
	CryptoStatus status;
	Secret		secret;

	if (sealed->length == 0 ||
		(seal_read_key_id(sealed->bytes, sealed->length, &sealed_by) && sealed_by == (uint32) key_id))
		return true;
	status = credential_try_open(credential, sealed, version, &secret);
	if (status == CRYPTO_REFUSED)
		return false;
	if (status == CRYPTO_OK)
		status = crypto_random(nonce, sizeof(nonce));
	key = keyring_newest(&key_id);
	if (key == NULL)
		status = CRYPTO_BROKEN;
	if (status == CRYPTO_OK)
		status = seal_secret(key, (uint32) key_id, &binding, nonce, secret.bytes, secret.length, sealed->bytes);
	secret_wipe(&secret);
	if (status != CRYPTO_OK)
		error_crypto(status);
	*changed = true;
	return true;
}

/*
 * Seals the secrets of a credential, whose row the caller has locked, with the current data key, and writes the row
 * if that changed any; its version does not change. A secret that cannot be opened is left unchanged, and the result
 * is false.
 */
bool
credential_reseal(Credential *credential)
{
	bool		changed = false;
	bool		current_opens = reseal_version(credential, credential->version, &credential->secret, &changed);
	bool		previous_opens = reseal_version(credential, credential_previous_version(credential),
										&credential->previous_secret, &changed);

	if (changed)
		rows_write_credential(credential);
	return current_opens && previous_opens;
}

/* Locks a credential likewise, regardless of its owner and of whether it is retired; returns whether it exists. */
bool
credential_lock_any(CredentialKind kind, const char *identifier, Credential *credential)
{
	return rows_lock_credential(kind, identifier, judge_nothing, InvalidOid, credential);
}
