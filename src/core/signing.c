/*
 * signing.c
 *	  HMACs under secrets that never leave the server: which version of a credential signed a message, and
 *	  signing one.
 *
 * A verification that fails must not reveal the reason, not even by its duration.  So it opens at least one
 * secret and computes at least one HMAC: if the credential is unknown, retired or malformed, those of a
 * decoy, sealed with the same data key.  A previous version is opened only while there is one, and only if
 * the current one did not sign.  The row is read with the statement's snapshot; it is not locked, and nothing
 * is written, so that this also works on a standby and in parallel workers.
 */
#include "core/signing.h"

#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/credential.h"
#include "core/grace.h"
#include "core/lifetime.h"
#include "record/usage.h"
#include "keys/keyring.h"
#include "store/tables.h"

#define DECOY_NAME "decoy"

/* A sealed value of the credential's kind that belongs to no row, on which to spend the same work. */
static Credential *
decoy_for(CredentialKind kind)
{
	static Credential decoys[2];
	static const uint8_t zeros[2 * SECRET_RANDOM_BYTES];
	Credential *decoy = &decoys[kind == CREDENTIAL_APP];
	size_t		length = kind == CREDENTIAL_APP ? sizeof(zeros) : CRYPTO_BASE64_TEXT(SECRET_RANDOM_BYTES);
	SealBinding binding = {kind, DECOY_NAME, sizeof(DECOY_NAME) - 1, 1};
	uint8_t		nonce[CRYPTO_NONCE_BYTES];
	int32		key_id = 0;
	uint32_t	sealed_by;
	CryptoKey  *key = keyring_newest(&key_id);

	if (seal_read_key_id(decoy->secret.bytes, decoy->secret.length, &sealed_by) && sealed_by == (uint32_t) key_id)
		return decoy;
	decoy->kind = kind;
	decoy->version = 1;
	strlcpy(decoy->identifier, DECOY_NAME, sizeof(decoy->identifier));
	decoy->secret.length = 0;
	if (key != NULL && crypto_random(nonce, sizeof(nonce)) == CRYPTO_OK &&
		seal_secret(key, (uint32_t) key_id, &binding, nonce, zeros, length, decoy->secret.bytes) == CRYPTO_OK)
		decoy->secret.length = length + SEAL_OVERHEAD;
	return decoy;
}

/* Opens one sealed secret, computes the HMAC and compares; no secret outlives the call. */
static CryptoStatus
compare_mac(const Presented *presented, const Credential *credential, const Sealed *sealed, int32 version, bool *equal)
{
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	Secret		secret;
	CryptoStatus status = credential_try_open(credential, sealed, version, &secret);

	if (status == CRYPTO_OK)
		status = crypto_hmac(presented->hash, secret.bytes, secret.length,
							 presented->message.bytes, presented->message.length, mac);
	secret_wipe(&secret);
	*equal = status == CRYPTO_OK && presented->mac_length == crypto_hash_bytes(presented->hash) &&
		crypto_equal(mac, presented->mac, presented->mac_length);
	crypto_wipe(mac, sizeof(mac));
	return status;
}

/* Compares with a secret of a known credential; raises XX001 if it cannot be opened. */
static bool
matches(const Presented *presented, const Credential *credential, const Sealed *sealed, int32 version)
{
	bool		equal;
	CryptoStatus status = compare_mac(presented, credential, sealed, version, &equal);

	if (status == CRYPTO_REFUSED)
		error_does_not_open(credential->kind, credential->identifier, version);
	if (status != CRYPTO_OK)
		error_crypto(status);
	return equal;
}

/* Does the same work as matches(), but discards the result. */
static void
match_decoy(const Presented *presented, CredentialKind kind)
{
	Credential *decoy = decoy_for(kind);
	bool		equal;

	if (compare_mac(presented, decoy, &decoy->secret, decoy->version, &equal) != CRYPTO_OK)
		decoy->secret.length = 0;
}

/*
 * Finds the signer's credential, without an expired previous version; returns whether it has any version. Disabled
 * and expired credentials have one, so that the same work is spent on them.
 */
static bool
find_signer(const Signer *signer, Credential *credential)
{
	if (!signer->well_formed ||
		!rows_find_signer(signer->kind, signer->identifier, GetActiveSnapshot(), credential))
		return false;
	if (credential->previous_secret.length > 0 && !grace_runs(credential))
		credential->previous_secret.length = 0;
	return credential->secret.length > 0 || credential->previous_secret.length > 0;
}

/* Finds the version that signed, if any. */
static void
find_version(const Credential *credential, const Presented *presented, Verdict *verdict)
{
	if (credential->secret.length > 0 &&
		matches(presented, credential, &credential->secret, credential->version))
	{
		verdict->version = credential->version;
		return;
	}
	if (credential->previous_secret.length == 0)
		return;
	verdict->previous = matches(presented, credential, &credential->previous_secret,
								credential_previous_version(credential));
	if (verdict->previous)
		verdict->version = credential_previous_version(credential);
}

/*
 * Begins a grace period that waits for the first use of this version, in both rows: after a NewAppKey the previous
 * version is in the row of the old AppKey.
 */
static void
start_grace(const Credential *credential, TimestampTz now)
{
	TimestampTz first_use = usage_begin_grace(credential->kind, credential->identifier, credential->version,
											  Max(now, credential->modified_at));

	if (credential->previous_secret.length == 0 && credential->previous_app_key[0] != '\0')
		(void) usage_begin_grace(CREDENTIAL_APP, credential->previous_app_key, credential->version - 1, first_use);
}

/*
 * Notes the outcome of a verification. A version that this transaction has created may be rolled back, and another
 * one created with the same number: so its use is not noted.
 */
static void
note_use(const Credential *credential, const Verdict *verdict)
{
	TimestampTz now;
	bool		starts_grace;

	if (!usage_exists())
		return;
	if (verdict->reason != REASON_OK)
	{
		usage_count_failure(verdict->reason);
		return;
	}
	if (credential->is_own)
		return;
	starts_grace = !verdict->previous && credential->grace_after_use != NO_GRACE_AFTER_USE;
	now = starts_grace ? GetCurrentTimestamp() : usage_clock();
	usage_note(credential->kind, credential->identifier, verdict->version, now);
	if (starts_grace)
		start_grace(credential, now);
}

/*
 * Decides whether the signer, as seen by the statement's snapshot, created the given MAC. The version is
 * returned regardless of the reason.  Raises 55000 if a master key is missing or wrong, and XX001 for a
 * secret that cannot be opened.
 */
Verdict
signing_judge(const Signer *signer, const Presented *presented)
{
	Verdict		verdict = {.reason = REASON_OK};
	Credential	credential;
	bool		any_key;
	bool		known;
	bool		in_place;

	tables_lock_access_share();
	any_key = keyring_ready();
	known = any_key && find_signer(signer, &credential);
	in_place = !signer->has_gateway || !signer->well_formed ||
		rows_gateway_exists(signer->identifier, signer->gateway_id, GetActiveSnapshot());
	if (known)
		find_version(&credential, presented, &verdict);
	else if (any_key)
		match_decoy(presented, signer->kind);

	if (!signer->well_formed || presented->mac_length != crypto_hash_bytes(presented->hash))
		verdict.reason = REASON_MALFORMED;
	else if (!known)
		verdict.reason = REASON_UNKNOWN;
	else if (credential.disabled_at != NO_TIME)
		verdict.reason = REASON_DISABLED;
	else if (!in_place)
		verdict.reason = REASON_NO_SUCH_GATEWAY;
	else if (verdict.version == 0)
		verdict.reason = REASON_MISMATCH;
	else if (!verdict.previous && lifetime_is_over(&credential))
		verdict.reason = REASON_EXPIRED;
	else
		verdict.reason = presented->worth;
	note_use(&credential, &verdict);
	return verdict;
}

/* The word for a reason, as returned to callers; a constant. */
const char *
signing_reason(Reason reason)
{
	static const char *const words[] = {
		[REASON_MALFORMED] = "malformed",
		[REASON_UNKNOWN] = "unknown",
		[REASON_DISABLED] = "disabled",
		[REASON_NO_SUCH_GATEWAY] = "no such gateway",
		[REASON_MISMATCH] = "mismatch",
		[REASON_EXPIRED] = "expired",
		[REASON_TOKEN_EXPIRED] = "token expired",
		[REASON_TOKEN_NOT_YET_VALID] = "token not yet valid",
		[REASON_OK] = "ok",
	};

	return words[reason];
}

/* Computes the HMAC of a message under one of a credential's secrets; raises XX001 if it cannot be opened. */
static void
sign_by(const Credential *credential, const Sealed *sealed, int32 version, CryptoHash hash, Bytes message,
		uint8_t mac[CRYPTO_MAX_MAC_BYTES])
{
	Secret		secret;
	CryptoStatus status = credential_try_open(credential, sealed, version, &secret);

	if (status == CRYPTO_REFUSED)
		error_does_not_open(credential->kind, credential->identifier, version);
	if (status == CRYPTO_OK)
		status = crypto_hmac(hash, secret.bytes, secret.length, message.bytes, message.length, mac);
	secret_wipe(&secret);
	if (status != CRYPTO_OK)
		error_crypto(status);
}

/*
 * Computes the HMAC of a message under the current secret of a credential that the caller may act on; returns
 * its length.  Raises P0002, 42501, 55000 and XX001.
 */
size_t
signing_sign(CredentialKind kind, const char *identifier, CryptoHash hash, Bytes message,
			 uint8_t mac[CRYPTO_MAX_MAC_BYTES])
{
	Credential	credential;

	tables_lock_access_share();
	credential_find(GetUserId(), kind, identifier, &credential);
	credential_require_usable(&credential);
	sign_by(&credential, &credential.secret, credential.version, hash, message, mac);
	return crypto_hash_bytes(hash);
}

/*
 * Finds the row that contains a credential's previous version, if one is in its grace period: its own, or its old
 * AppKey's.
 */
static bool
find_in_grace(const Credential *credential, Credential *holder)
{
	if (credential->previous_valid_until == NO_TIME)
		return false;
	*holder = *credential;
	if (credential->previous_secret.length == 0 && credential->previous_app_key[0] != '\0' &&
		!credential_look_up(CREDENTIAL_APP, credential->previous_app_key, holder))
		return false;
	return lifetime_previous_verifies(holder);
}

/*
 * The same with the current version and with one in its grace period, which after a NewAppKey is that of the
 * old AppKey; returns the number of signatures.
 */
int
signing_sign_with_all(CredentialKind kind, const char *identifier, CryptoHash hash, Bytes message,
					  Signature signatures[SIGNING_MAX_VERSIONS])
{
	Credential	credential;
	Credential	holder;
	Signature  *previous = &signatures[1];

	tables_lock_access_share();
	credential_find(GetUserId(), kind, identifier, &credential);
	credential_require_usable(&credential);
	strlcpy(signatures[0].identifier, identifier, sizeof(signatures[0].identifier));
	signatures[0].version = credential.version;
	sign_by(&credential, &credential.secret, credential.version, hash, message, signatures[0].mac);
	if (!find_in_grace(&credential, &holder))
		return 1;
	strlcpy(previous->identifier, holder.identifier, sizeof(previous->identifier));
	previous->version = credential_previous_version(&holder);
	sign_by(&holder, &holder.previous_secret, previous->version, hash, message, previous->mac);
	return 2;
}
