/*
 * keyring.c
 *	  The database's data keys: created on first use, unwrapped with the master key, cached for the session.
 *
 * The cache follows the table: any change to keyrot.data_key is broadcast as a relation cache invalidation,
 * which also reaches the session itself when its transaction rolls back.  An entry is kept only while the
 * table has its id with its check value, so that a key that was rolled back, or belonged to an extension that
 * has been dropped, never seals again.  COPY and logical replication into the table broadcast nothing, nor
 * does a DELETE. So an empty cache is never trusted, and sealing always checks the table itself: a secret
 * sealed with a key that is not in the table would be lost with the session.
 *
 * The master key is read when there is something to unwrap, and is not kept.  A session that has its data
 * keys therefore continues to work when the key file is lost or damaged; status() reads the file again and
 * reports it.
 */
#include "keys/keyring.h"

#include "access/xact.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "keys/data_key.h"
#include "keys/master.h"
#include "store/key_statements.h"
#include "store/rows.h"
#include "store/tables.h"

/* A data key of the table; key is NULL if it could not be unwrapped. */
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
static uint64 cached_changes = 0;	/* how many of tables_data_key_changes() the cache has seen */

/* Tells every session that the table has changed, this one immediately. */
static void
announce_change(void)
{
	CacheInvalidateRelcacheByRelid(tables_get()->data_key);
	CommandCounterIncrement();
}

/* The entry of a data key whose key is at hand; NULL: it is not cached. */
static CachedKey *
find_cached(const DataKeyRow *row)
{
	for (int i = 0; i < cache_count; i++)
		if (cache[i].key != NULL && cache[i].id == row->id &&
			memcmp(cache[i].check_value, row->check_value, DATA_KEY_TAG_BYTES) == 0)
			return &cache[i];
	return NULL;
}

static bool
all_cached(const DataKeyRow *rows, int count)
{
	for (int i = 0; i < count; i++)
		if (find_cached(&rows[i]) == NULL)
			return false;
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
		CachedKey  *known = find_cached(&rows[i]);

		next[i] = (CachedKey) {.id = rows[i].id, .key = known == NULL ? NULL : known->key};
		memcpy(next[i].check_value, rows[i].check_value, DATA_KEY_TAG_BYTES);
		if (known != NULL)
			known->key = NULL;
		else if (masters != NULL)
			next[i].key = data_key_open(&rows[i], masters, source, &cache_problem);
		complete = complete && next[i].key != NULL;
	}
	for (int i = 0; i < cache_count; i++)
		crypto_key_free(cache[i].key);
	if (count > 0)
		memcpy(cache, next, count * sizeof(CachedKey));
	cache_count = count;
	return complete;
}

static bool
holds_all(const MasterKeys *masters, const DataKeyRow *rows, int count)
{
	for (int i = 0; i < count; i++)
		if (data_key_master(&rows[i], masters) == NULL)
			return false;
	return true;
}

/* The master keys, read from their source itself if one that these rows name is not among the cached ones. */
static MasterKeys *
read_masters(const DataKeyRow *rows, int count, KeyProblem *problem)
{
	MasterKeys *masters = master_read(problem);

	if (masters == NULL || holds_all(masters, rows, count))
		return masters;
	master_free(masters);
	return master_read_again(problem);
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
	bool		opened_before;
	int			count;

	if (cache_complete && cache_count > 0 && cached_changes == tables_data_key_changes())
		return;
	(void) tables_get();
	changes = tables_data_key_changes();
	count = rows_read_data_keys(NULL, &rows);
	reserve(count);
	next = palloc(count * sizeof(CachedKey) + 1);
	opened_before = all_cached(rows, count);
	if (!opened_before)
	{
		source = master_source();
		masters = read_masters(rows, count, &cache_problem);
	}
	cache_complete = replace_cache(rows, count, masters, source, next);
	cached_changes = changes;
	master_free(masters);
	pfree(next);
	pfree(rows);
}

/* The same, but never trusts the cache. */
static void
refresh_from_table(void)
{
	cache_complete = false;
	refresh();
}

/* The newest of the cached keys, or NULL if there is none. */
static CachedKey *
newest(void)
{
	CachedKey  *found = NULL;

	for (int i = 0; i < cache_count; i++)
		if (found == NULL || cache[i].id > found->id)
			found = &cache[i];
	return found;
}

/*
 * Takes ShareRowExclusiveLock on the table of data keys, so that nobody else can change it until the
 * transaction ends, and reads their current state; returns whether there is any data key.
 */
bool
keyring_lock_share_row_exclusive(void)
{
	rows_lock_data_keys();
	refresh_from_table();
	return cache_count > 0;
}

/*
 * If this database has no data keys, a missing file need not be restored from a backup: it may never have
 * existed.
 */
static void
hint_at_creation(int data_keys, KeyProblem *problem)
{
	if (problem->missing && data_keys == 0)
		strlcpy(problem->hint, "Call keyrot.create_master_key(), or restore the file if there was one.",
				sizeof(problem->hint));
}

/* The master keys, read from their source itself, to wrap this number of data keys. */
static MasterKeys *
read_masters_for_wrapping(int data_keys, KeyProblem *problem)
{
	MasterKeys *masters = master_read_for_wrapping(problem);

	if (masters == NULL)
		hint_at_creation(data_keys, problem);
	return masters;
}

/* Creates a data key with an id above all others, which are locked. */
static void
make_key(void)
{
	CachedKey  *before = newest();
	int32		id = before == NULL ? 1 : before->id + 1;
	KeyProblem	problem;
	DataKeyRow	row;
	CryptoStatus status;
	MasterKeys *masters = read_masters_for_wrapping(cache_count, &problem);

	if (masters == NULL)
		error_unusable_key(&problem);
	status = data_key_make(id, masters, &row);
	master_free(masters);
	if (status != CRYPTO_OK)
		error_crypto(status);
	key_statements_insert(&row, GetCurrentTimestamp());
	announce_change();
	refresh();
}

/*
 * The key that new secrets are sealed with, and its id; created if the database has none yet.  It belongs to
 * the keyring and is valid until the next call.  Raises 55000 if the master key is missing or wrong.
 */
CryptoKey *
keyring_current(int32 *key_id)
{
	CachedKey  *current;

	refresh_from_table();
	/* A second session waits for the first one's transaction, and makes a key only if that was rolled back. */
	if (cache_count == 0 && !keyring_lock_share_row_exclusive())
		make_key();
	current = newest();
	if (current == NULL || current->key == NULL)
		error_unusable_key(&cache_problem);
	*key_id = current->id;
	return current->key;
}

/*
 * The newest of the keys that keyring_ready() has just unwrapped, and its id, or NULL if there is none; does
 * not create one.  It belongs to the keyring and is valid until the next call.
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

/* The id of the newest data key, 0 if there is none; does not create one. */
int32
keyring_newest_id(void)
{
	refresh();
	return cache_count == 0 ? 0 : newest()->id;
}

/*
 * A key that was dropped after the statement's snapshot was taken: a snapshot that still sees a secret that
 * was sealed with it also sees its row.
 */
static CryptoKey *
find_dropped(int32 key_id)
{
	static CryptoKey *found = NULL;
	DataKeyRow *rows;
	KeyProblem	problem;
	MasterKeys *masters;
	char	   *source = master_source();
	int			count;

	crypto_key_free(found);
	found = NULL;
	if (!ActiveSnapshotSet())
		return NULL;
	count = rows_read_data_keys(GetActiveSnapshot(), &rows);
	while (count > 0 && rows[count - 1].id != key_id)
		count--;
	if (count == 0)
		return NULL;
	masters = read_masters(&rows[count - 1], 1, &problem);
	if (masters != NULL)
		found = data_key_open(&rows[count - 1], masters, source, &problem);
	master_free(masters);
	if (found == NULL)
		error_unusable_key(&problem);
	return found;
}

/*
 * The key with this id, or NULL if the database has none and the active snapshot sees none.  It belongs to
 * the keyring and is valid until the next call.  Raises 55000 if its master key is missing or wrong.
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
	return find_dropped(key_id);
}

/*
 * Unwraps every data key and returns whether there is any; creates none.  Raises 55000 if a master key is
 * missing or wrong, so that later steps never fail only for some credentials.
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

/*
 * Creates a new data key for all further sealing, in every session once the transaction has committed;
 * returns its id.  Raises 55000 if a master key is missing or wrong.
 */
int32
keyring_add(void)
{
	(void) keyring_lock_share_row_exclusive();
	(void) keyring_ready();
	make_key();
	return newest()->id;
}

/*
 * Wraps the data keys that are not wrapped with the current master key, and flags them.  Returns false and
 * sets the problem on failure.  Never throws, because masters is in memory.
 */
static bool
renew(DataKeyRow *rows, bool *renewed, int count, const MasterKeys *masters, const char *source, KeyProblem *problem)
{
	for (int i = 0; i < count; i++)
	{
		CryptoKey  *key = data_key_open(&rows[i], masters, source, problem);
		CryptoStatus status = CRYPTO_OK;

		if (key == NULL)
			return false;
		renewed[i] = data_key_master(&rows[i], masters) != &masters->keys[0];
		if (renewed[i])
			status = data_key_renew(key, masters, &rows[i]);
		crypto_key_free(key);
		if (status == CRYPTO_OK)
			continue;
		problem_set(problem, "Try again.", "could not wrap data key %d: OpenSSL failed or is out of memory", rows[i].id);
		return false;
	}
	return true;
}

/*
 * Wraps all data keys with the current master key, writes that key's fingerprint, and returns how many were
 * not wrapped with it before.  Raises 55000, and changes nothing, if there is no master key or a data key
 * cannot be unwrapped, and 40001 if the transaction's snapshot is older than a data key.
 */
int
keyring_rewrap(char fingerprint[MASTER_TEXT_FINGERPRINT_DIGITS + 1])
{
	char	   *source = master_source();
	int			changed = 0;
	DataKeyRow *rows;
	bool	   *renewed;
	KeyProblem	problem;
	MasterKeys *masters;
	bool		good;
	int			count;

	(void) keyring_lock_share_row_exclusive();
	count = rows_read_data_keys(NULL, &rows);
	renewed = palloc0(count * sizeof(bool) + 1);
	masters = read_masters_for_wrapping(count, &problem);
	good = masters != NULL && renew(rows, renewed, count, masters, source, &problem);
	if (good)
		master_text_format_fingerprint(masters->keys[0].fingerprint, fingerprint);
	master_free(masters);
	if (!good)
		error_unusable_key(&problem);
	for (int i = 0; i < count; i++)
	{
		if (!renewed[i])
			continue;
		if (!key_statements_rewrap(&rows[i]))
			error_concurrent_update();
		changed++;
	}
	if (changed > 0)
		announce_change();
	return changed;
}

/*
 * Drops those data keys below this one that no stored secret is sealed with, and returns how many; never the
 * newest.  The caller must ensure that no open transaction has sealed with them.
 */
int
keyring_drop_unused(int32 below)
{
	int			dropped = 0;
	DataKeyRow *rows;
	int			count;

	(void) keyring_lock_share_row_exclusive();
	count = rows_read_data_keys(NULL, &rows);
	for (int i = 0; i < count; i++)
	{
		if (rows[i].id >= below || rows[i].id == keyring_newest_id() || key_statements_seals_anything(rows[i].id))
			continue;
		key_statements_delete(rows[i].id);
		dropped++;
	}
	if (dropped > 0)
		announce_change();
	return dropped;
}

/* Adds the master keys that these rows name to the state, each once. */
static void
list_masters(const DataKeyRow *rows, int count, KeyringStatus *status)
{
	status->masters = palloc(count * sizeof(status->masters[0]) + 1);
	for (int i = 0; i < count; i++)
	{
		int			known = 0;

		while (known < status->masters_count &&
			   memcmp(status->masters[known], rows[i].master_key, DATA_KEY_TAG_BYTES) != 0)
			known++;
		if (known == status->masters_count)
			memcpy(status->masters[status->masters_count++], rows[i].master_key, DATA_KEY_TAG_BYTES);
	}
}

/*
 * Reads the table and the master key again and reports their state, without raising an error for a problem with
 * the key.
 */
void
keyring_examine(KeyringStatus *status)
{
	char	   *source = master_source();
	DataKeyRow *rows;
	MasterKeys *masters;

	memset(status, 0, sizeof(*status));
	status->data_keys = rows_read_data_keys(NULL, &rows);
	for (int i = 0; i < status->data_keys; i++)
		status->current = Max(status->current, rows[i].id);
	list_masters(rows, status->data_keys, status);

	masters = read_masters(rows, status->data_keys, &status->problem);
	if (masters == NULL)
	{
		hint_at_creation(status->data_keys, &status->problem);
		status->has_problem = true;
		return;
	}
	master_text_format_fingerprint(masters->keys[0].fingerprint, status->master_key);
	for (int i = 0; i < status->data_keys && !status->has_problem; i++)
	{
		CryptoKey  *key = data_key_open(&rows[i], masters, source, &status->problem);

		status->has_problem = key == NULL;
		status->needs_rewrap = status->needs_rewrap || data_key_master(&rows[i], masters) != &masters->keys[0];
		crypto_key_free(key);
	}
	master_free(masters);
}
