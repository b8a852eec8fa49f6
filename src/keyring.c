/*
 * keyring.c
 *	  The database's data keys: made on first need, unwrapped by the master key, cached for the session.
 *
 * The cache follows the table, not the other way round: any change to keyrot.data_key is broadcast as a
 * relation cache invalidation, which also reaches the session itself when its transaction rolls back.
 * An entry is kept only while the table has its id with its check value, so that a key that was rolled
 * back, or belonged to an extension since dropped, never seals again.  An empty cache is never trusted,
 * for COPY into the table broadcasts nothing.
 *
 * The master key is read when there is something to unwrap, and forgotten.  A session that has its data
 * keys therefore goes on when the key file is lost or spoilt; status() reads the file anew and tells.
 */
#include "keyring.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "key_marker.h"
#include "master_key.h"
#include "rows.h"
#include "store.h"
#include "tables.h"

#define DATA_KEY_VERSION 1
#define DATA_KEY_NAME_BYTES 12

static const char check_domain[] = "keyrot data key";

/* A data key of the table; key is NULL where it could not be unwrapped. */
typedef struct CachedKey
{
	int32		id;
	uint8_t		check_value[DATA_KEY_TAG_BYTES];
	CryptoKey  *key;
} CachedKey;

static CachedKey *cache = NULL;
static int	cache_count = 0;
static int	cache_room = 0;
static bool cache_complete = false; /* every data key was unwrapped */
static KeyProblem cache_problem;	/* why one was not */
static Oid	watched_table = InvalidOid;
static uint64 table_changes = 0;	/* as they are broadcast */
static uint64 cached_changes = 0;	/* how many of them the cache has seen */

static void
on_relcache_change(Datum arg pg_attribute_unused(), Oid relation)
{
	if (relation == InvalidOid || relation == watched_table)
		table_changes++;
}

static void
watch_table(void)
{
	if (!OidIsValid(watched_table))
		CacheRegisterRelcacheCallback(on_relcache_change, (Datum) 0);
	watched_table = tables_get()->data_key;
}

/* What a wrapped data key is bound to: its id in decimal digits. */
static SealBinding
bind_data_key(int32 id, char name[DATA_KEY_NAME_BYTES])
{
	SealBinding binding = {SEAL_DATA_KEY, name, 0, DATA_KEY_VERSION};

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

/* Opens a wrapped data key with the raw master key.  The result is the caller's. */
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
	char		wanted[KEYFILE_FINGERPRINT_DIGITS + 1];
	char		held[KEYFILE_FINGERPRINT_DIGITS + 1];

	keyfile_format_fingerprint(row->master_key, wanted);
	keyfile_format_fingerprint(masters->keys[0].fingerprint, held);
	problem->missing = false;
	snprintf(problem->message, sizeof(problem->message),
			 "data key %d is wrapped by master key %s; %s holds %s%s", row->id, wanted, source, held,
			 masters->count > 1 ? " and older ones" : "");
	snprintf(problem->hint, sizeof(problem->hint),
			 "Put the line of master key %s into the file, below its first line.", wanted);
}

static void
note_failed_unwrap(const DataKeyRow *row, CryptoStatus status, KeyProblem *problem)
{
	if (status == CRYPTO_REFUSED)
		snprintf(problem->message, sizeof(problem->message),
				 "data key %d does not open: its row was changed or belongs to another data key", row->id);
	else
		snprintf(problem->message, sizeof(problem->message),
				 "data key %d could not be unwrapped: OpenSSL failed or is out of memory", row->id);
	snprintf(problem->hint, sizeof(problem->hint), "Restore keyrot.data_key from a backup.");
}

/* Unwraps one row with whichever master key its fingerprint names; NULL with the problem noted. */
static CryptoKey *
unwrap_with_any(const DataKeyRow *row, const MasterKeys *masters, const char *source, KeyProblem *problem)
{
	CryptoKey  *key = NULL;

	for (int i = 0; i < masters->count; i++)
	{
		CryptoStatus status;

		if (memcmp(masters->keys[i].fingerprint, row->master_key, sizeof(row->master_key)) != 0)
			continue;
		status = unwrap(row, masters->keys[i].raw, &key);
		if (status != CRYPTO_OK)
			note_failed_unwrap(row, status, problem);
		return key;
	}
	note_missing_master(row, masters, source, problem);
	return NULL;
}

/* Moves a key that is cached already out of the cache. */
static CryptoKey *
take_cached(const DataKeyRow *row)
{
	for (int i = 0; i < cache_count; i++)
	{
		CryptoKey  *key = cache[i].key;

		if (cache[i].id != row->id || memcmp(cache[i].check_value, row->check_value, DATA_KEY_TAG_BYTES) != 0)
			continue;
		cache[i].key = NULL;
		return key;
	}
	return NULL;
}

static bool
all_cached(const DataKeyRow *rows, int count)
{
	for (int i = 0; i < count; i++)
	{
		bool		found = false;

		for (int j = 0; j < cache_count && !found; j++)
			found = cache[j].key != NULL && cache[j].id == rows[i].id &&
				memcmp(cache[j].check_value, rows[i].check_value, DATA_KEY_TAG_BYTES) == 0;
		if (!found)
			return false;
	}
	return true;
}

static void
reserve(int count)
{
	if (count <= cache_room)
		return;
	if (cache == NULL)
		cache = MemoryContextAlloc(TopMemoryContext, count * sizeof(CachedKey));
	else
		cache = repalloc(cache, count * sizeof(CachedKey));
	cache_room = count;
}

/* Replaces the cache by the keys of these rows.  Never throws: it holds unwrapped keys. */
static bool
replace_cache(const DataKeyRow *rows, int count, const MasterKeys *masters, const char *source, CachedKey *next)
{
	bool		complete = true;

	for (int i = 0; i < count; i++)
	{
		next[i].id = rows[i].id;
		memcpy(next[i].check_value, rows[i].check_value, DATA_KEY_TAG_BYTES);
		next[i].key = take_cached(&rows[i]);
		if (next[i].key == NULL && masters != NULL)
			next[i].key = unwrap_with_any(&rows[i], masters, source, &cache_problem);
		complete = complete && next[i].key != NULL;
	}
	for (int i = 0; i < cache_count; i++)
		crypto_key_free(cache[i].key);
	if (count > 0)
		memcpy(cache, next, count * sizeof(CachedKey));
	cache_count = count;
	return complete;
}

/* Lets the cluster remember which master keys these data keys depend on; a standby's primary does that. */
static void
note_masters_in_use(const DataKeyRow *rows, int count)
{
	for (int i = 0; i < count && cache_complete && !RecoveryInProgress(); i++)
		master_key_note_in_use(rows[i].master_key);
}

/* Makes the cache agree with the table, as far as the master key allows. */
static void
refresh(void)
{
	DataKeyRow *rows;
	CachedKey  *next;
	MasterKeys *masters = NULL;
	char	   *source = NULL;
	uint64		changes;
	int			count;

	if (cache_complete && cache_count > 0 && cached_changes == table_changes)
		return;
	watch_table();
	changes = table_changes;
	count = rows_read_data_keys(&rows);
	reserve(count);
	next = palloc(count * sizeof(CachedKey) + 1);
	if (!all_cached(rows, count))
	{
		source = master_key_source();
		masters = master_key_read(&cache_problem);
	}
	cache_complete = replace_cache(rows, count, masters, source, next);
	cached_changes = changes;
	if (masters != NULL)
	{
		master_key_free(masters);
		note_masters_in_use(rows, count);
	}
	pfree(next);
	pfree(rows);
}

/* The newest of the cached keys, or NULL where there is none. */
static CachedKey *
newest(void)
{
	CachedKey  *found = NULL;

	for (int i = 0; i < cache_count; i++)
		if (found == NULL || cache[i].id > found->id)
			found = &cache[i];
	return found;
}

/* Makes a data key and wraps it by the current master key.  Returns codes: masters is open. */
static CryptoStatus
make_wrapped(int32 id, const MasterKeys *masters, DataKeyRow *row)
{
	const MasterKey *master = &masters->keys[0];
	char		name[DATA_KEY_NAME_BYTES];
	SealBinding binding = bind_data_key(id, name);
	uint8_t		nonce[CRYPTO_NONCE_BYTES];
	uint8_t		raw[CRYPTO_KEY_BYTES];
	CryptoKey  *wrapping;
	CryptoStatus status = crypto_key_make(master->raw, &wrapping);

	if (status != CRYPTO_OK)
		return status;
	row->id = id;
	memcpy(row->master_key, master->fingerprint, sizeof(row->master_key));
	status = crypto_random(nonce, sizeof(nonce));
	if (status == CRYPTO_OK)
		status = crypto_random(raw, sizeof(raw));
	if (status == CRYPTO_OK)
		status = compute_check_value(raw, row->check_value);
	if (status == CRYPTO_OK)
		status = seal_secret(wrapping, SEAL_BY_MASTER_KEY, &binding, nonce, raw, sizeof(raw), row->wrapped.bytes);
	row->wrapped.length = sizeof(raw) + SEAL_OVERHEAD;
	crypto_wipe(raw, sizeof(raw));
	crypto_key_free(wrapping);
	return status;
}

/*
 * Makes the database's first data key.  Whoever comes second waits for the first one's transaction and
 * then finds its key, or makes one where that was rolled back.
 */
static void
make_first_key(void)
{
	KeyProblem	problem;
	MasterKeys *masters;
	DataKeyRow	row;
	CryptoStatus status;

	LockRelationOid(tables_get()->data_key, ShareRowExclusiveLock);
	refresh();
	if (cache_count > 0)
		return;
	masters = master_key_read_or_make(&problem);
	if (masters == NULL)
		error_unusable_key(&problem);
	status = make_wrapped(1, masters, &row);
	master_key_free(masters);
	if (status != CRYPTO_OK)
		error_crypto(status);
	store_insert_data_key(&row, GetCurrentTimestamp());
	CacheInvalidateRelcacheByRelid(tables_get()->data_key);
	refresh();
}

/*
 * The key that new secrets are sealed with, and its id; made where the database has none yet.  It stays
 * the keyring's and is good until the next call.  Raises 55000 where the master key is missing or wrong.
 */
CryptoKey *
keyring_current(int32 *key_id)
{
	CachedKey  *current;

	refresh();
	if (cache_count == 0)
		make_first_key();
	current = newest();
	if (current == NULL || current->key == NULL)
		error_unusable_key(&cache_problem);
	*key_id = current->id;
	return current->key;
}

/*
 * The newest of the keys that keyring_ready() has just unwrapped, and its id, or NULL where there is none;
 * makes none.  It stays the keyring's and is good until the next call.
 */
CryptoKey *
keyring_newest(int32 *key_id)
{
	CachedKey  *found = newest();

	if (found == NULL)
		return NULL;
	*key_id = found->id;
	return found->key;
}

/*
 * The key of this id, or NULL where the database has none.  It stays the keyring's and is good until the
 * next call.  Raises 55000 where its master key is missing or wrong.
 */
CryptoKey *
keyring_find(int32 key_id)
{
	for (int attempt = 0; attempt < 2; attempt++)
	{
		refresh();
		for (int i = 0; i < cache_count; i++)
		{
			if (cache[i].id != key_id)
				continue;
			if (cache[i].key == NULL)
				error_unusable_key(&cache_problem);
			return cache[i].key;
		}
		cache_complete = false;
	}
	return NULL;
}

/*
 * Unwraps every data key and tells whether there is any; makes none.  Raises 55000 where a master key
 * is missing or wrong, so that what follows never fails for some credentials only.
 */
bool
keyring_ready(void)
{
	refresh();
	for (int i = 0; i < cache_count; i++)
		if (cache[i].key == NULL)
			error_unusable_key(&cache_problem);
	return cache_count > 0;
}

/* Reads table and master key anew and tells their state, without raising what is wrong with the key. */
void
keyring_examine(KeyringStatus *status)
{
	char	   *source = master_key_source();
	DataKeyRow *rows;
	MasterKeys *masters;

	memset(status, 0, sizeof(*status));
	status->data_keys = rows_read_data_keys(&rows);
	for (int i = 0; i < status->data_keys; i++)
		status->current = Max(status->current, rows[i].id);

	masters = master_key_read(&status->problem);
	if (masters == NULL)
	{
		bool		none_yet = status->problem.missing && status->data_keys == 0 && !key_marker_exists();

		status->has_problem = !none_yet;
		return;
	}
	keyfile_format_fingerprint(masters->keys[0].fingerprint, status->master_key);
	for (int i = 0; i < status->data_keys && !status->has_problem; i++)
	{
		CryptoKey  *key = unwrap_with_any(&rows[i], masters, source, &status->problem);

		status->has_problem = key == NULL;
		crypto_key_free(key);
	}
	master_key_free(masters);
}
