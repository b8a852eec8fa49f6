/*
 * data_key.c
 *	  Data keys as rows: created, wrapped with the current master key, unwrapped with the one that their row
 *	  names.
 *
 * A row names its master key by fingerprint, which is checked before anything is decrypted, so that a wrong
 * key is reported by name and not as damaged data.  The check value distinguishes two data keys with the same
 * id, if one of them was rolled back or belonged to an extension that has been dropped.
 *
 * Nothing here throws, because master keys are in memory.
 */
#include "keys/data_key.h"

#include "access/xlog.h"

#define DATA_KEY_VERSION 1
#define DATA_KEY_NAME_BYTES 12

static const char check_domain[] = "keyrot data key";

/* What a wrapped data key is bound to: its id in decimal digits. */
static SealBinding
bind_data_key(int32 id, char name[DATA_KEY_NAME_BYTES])
{
	SealBinding binding = {CREDENTIAL_DATA_KEY, name, 0, DATA_KEY_VERSION};

	binding.identifier_length = (size_t) snprintf(name, DATA_KEY_NAME_BYTES, "%d", id);
	return binding;
}

static CryptoStatus
compute_check_value(const uint8_t raw[CRYPTO_KEY_BYTES], uint8_t check_value[DATA_KEY_TAG_BYTES])
{
	uint8_t		digest[CRYPTO_HASH_BYTES];
	CryptoStatus status = crypto_sha256(check_domain, sizeof(check_domain) - 1, raw, CRYPTO_KEY_BYTES, digest);

	memcpy(check_value, digest, DATA_KEY_TAG_BYTES);
	return status;
}

/* Unwraps a data key with the raw master key. The caller must free the result. */
static CryptoStatus
unwrap(const DataKeyRow *row, const uint8_t master[CRYPTO_KEY_BYTES], CryptoKey **key)
{
	char		name[DATA_KEY_NAME_BYTES];
	SealBinding binding = bind_data_key(row->id, name);
	uint8_t		raw[CRYPTO_KEY_BYTES];
	uint8_t		check_value[DATA_KEY_TAG_BYTES];
	size_t		length = 0;
	CryptoKey  *wrapping;
	CryptoStatus status = crypto_key_make(master, &wrapping);

	if (status != CRYPTO_OK)
		return status;
	status = seal_open(wrapping, &binding, row->wrapped.bytes, row->wrapped.length, raw, sizeof(raw), &length);
	crypto_key_free(wrapping);
	if (status == CRYPTO_OK && length != sizeof(raw))
		status = CRYPTO_REFUSED;
	if (status == CRYPTO_OK)
		status = compute_check_value(raw, check_value);
	if (status == CRYPTO_OK && !crypto_equal(check_value, row->check_value, sizeof(check_value)))
		status = CRYPTO_REFUSED;
	if (status == CRYPTO_OK)
		status = crypto_key_make(raw, key);
	crypto_wipe(raw, sizeof(raw));
	return status;
}

static void
note_missing_master(const DataKeyRow *row, const MasterKeys *masters, const char *source, KeyProblem *problem)
{
	char		wanted[MASTER_TEXT_FINGERPRINT_DIGITS + 1];
	char		held[MASTER_TEXT_FINGERPRINT_DIGITS + 1];

	master_text_format_fingerprint(row->master_key, wanted);
	master_text_format_fingerprint(masters->keys[0].fingerprint, held);
	problem_set(problem, "", "data key %d is wrapped by master key %s; %s contains %s%s", row->id, wanted, source, held,
				masters->count > 1 ? " and older ones" : "");
	if (RecoveryInProgress())
		snprintf(problem->hint, sizeof(problem->hint),
				 "Give this standby the master keys of its primary, which uses master key %s.",
				 wanted);
	else
		snprintf(problem->hint, sizeof(problem->hint),
				 "Add the line of master key %s to it, below the first line.", wanted);
}

static void
note_failed_unwrap(const DataKeyRow *row, CryptoStatus status, KeyProblem *problem)
{
	static const char hint[] = "Restore keyrot.data_key from a backup.";

	if (status == CRYPTO_REFUSED)
		problem_set(problem, hint, "could not unwrap data key %d: its row was changed or belongs to another data key", row->id);
	else if (status == CRYPTO_MISSING)
		problem_set(problem, "Activate a provider that offers it in OpenSSL's configuration and restart the server.",
					"could not unwrap data key %d: %s is not available", row->id, crypto_missing_algorithm());
	else
		problem_set(problem, hint, "could not unwrap data key %d: OpenSSL failed or is out of memory", row->id);
}

/* The master key that a data key is wrapped by; NULL: it is not among these. */
const MasterKey *
data_key_master(const DataKeyRow *row, const MasterKeys *masters)
{
	for (int i = 0; i < masters->count; i++)
		if (memcmp(masters->keys[i].fingerprint, row->master_key, sizeof(row->master_key)) == 0)
			return &masters->keys[i];
	return NULL;
}

/*
 * Unwraps a data key with the master key that its fingerprint names; the caller must free the result.
 * Returns NULL and sets the problem on failure; source is the result of master_source().
 */
CryptoKey *
data_key_open(const DataKeyRow *row, const MasterKeys *masters, const char *source, KeyProblem *problem)
{
	const MasterKey *master = data_key_master(row, masters);
	CryptoKey  *key = NULL;
	CryptoStatus status;

	if (master == NULL)
	{
		note_missing_master(row, masters, source, problem);
		return NULL;
	}
	status = unwrap(row, master->raw, &key);
	if (status != CRYPTO_OK)
		note_failed_unwrap(row, status, problem);
	return key;
}

/* Wraps a raw data key with the current master key, and names that in the row, whose id is set. */
static CryptoStatus
wrap(const uint8_t raw[CRYPTO_KEY_BYTES], const MasterKeys *masters, DataKeyRow *row)
{
	const MasterKey *master = &masters->keys[0];
	char		name[DATA_KEY_NAME_BYTES];
	SealBinding binding = bind_data_key(row->id, name);
	uint8_t		nonce[CRYPTO_NONCE_BYTES];
	CryptoKey  *wrapping;
	CryptoStatus status = crypto_key_make(master->raw, &wrapping);

	if (status != CRYPTO_OK)
		return status;
	memcpy(row->master_key, master->fingerprint, sizeof(row->master_key));
	status = crypto_random(nonce, sizeof(nonce));
	if (status == CRYPTO_OK)
		status = seal_secret(wrapping, SEAL_BY_MASTER_KEY, &binding, nonce, raw, CRYPTO_KEY_BYTES, row->wrapped.bytes);
	row->wrapped.length = CRYPTO_KEY_BYTES + SEAL_OVERHEAD;
	crypto_key_free(wrapping);
	return status;
}

/* Creates a data key with this id and wraps it with the current master key. */
CryptoStatus
data_key_make(int32 id, const MasterKeys *masters, DataKeyRow *row)
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	CryptoStatus status = crypto_random(raw, sizeof(raw));

	row->id = id;
	if (status == CRYPTO_OK)
		status = compute_check_value(raw, row->check_value);
	if (status == CRYPTO_OK)
		status = wrap(raw, masters, row);
	crypto_wipe(raw, sizeof(raw));
	return status;
}

/* Rewraps a data key with the current master key; the data key itself does not change. */
CryptoStatus
data_key_renew(const CryptoKey *key, const MasterKeys *masters, DataKeyRow *row)
{
	return wrap(crypto_key_raw(key), masters, row);
}
