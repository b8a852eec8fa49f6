/*
 * usage_table.c
 *	  The table of usage.c in shared memory: of a fixed size, in partitions with a lock each; the entry that was not
 *	  used for the longest time goes first.
 *
 * A partition has entries, found by a hash, and linked in the order of their use.  That order is a second or so
 * behind: putting an entry at its end takes the exclusive lock, which is not to be taken at each use.
 */
#include "record/usage_table.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "store/tables.h"
#include "base/settings.h"

#define TRANCHE "keyrot usage"
#define PARTITION_ROOM 1024		/* entries in one, where they are not all in one */
#define NONE (-1)				/* no entry */

UsageTable *usage_table = NULL;
static int	partitions = 0;
static int	room = 0;				/* entries in each */
static int	bucket_count = 0;		/* likewise */
static UsageEntry *entries = NULL;
static int *buckets = NULL;
static LWLockPadded *locks = NULL;

static shmem_request_hook_type next_request_hook = NULL;
static shmem_startup_hook_type next_startup_hook = NULL;


/* Divides keyrot.usage_entries into partitions; their number, and that of their buckets, is a power of two. */
static void
divide(void)
{
	for (partitions = 1; partitions < USAGE_MAX_PARTITIONS && keyrot_usage_entries / partitions > PARTITION_ROOM;)
		partitions *= 2;
	room = (keyrot_usage_entries + partitions - 1) / partitions;
	for (bucket_count = 1; bucket_count < room;)
		bucket_count *= 2;
}

/* The size of so many elements of this size in each partition. */
static Size
bytes_of(Size each, int count)
{
	return mul_size(each, mul_size(partitions, count));
}

static void
request_memory(void)
{
	if (next_request_hook != NULL)
		next_request_hook();
	RequestAddinShmemSpace(sizeof(UsageTable));
	RequestAddinShmemSpace(bytes_of(sizeof(UsageEntry), room));
	RequestAddinShmemSpace(bytes_of(sizeof(int), bucket_count));
	RequestNamedLWLockTranche(TRANCHE, partitions);
}

static void
clear(void)
{
	memset(usage_table, 0, sizeof(UsageTable));
	if (!pg_strong_random(&usage_table->seed, sizeof(usage_table->seed)))
		elog(FATAL, "could not draw a random number");
	for (int i = 0; i < USAGE_REASONS; i++)
		pg_atomic_init_u64(&usage_table->failures[i], 0);
	pg_atomic_init_u32(&usage_table->news, NO_NEWS);
	pg_atomic_init_u64(&usage_table->written_at, USAGE_NEVER);
	pg_atomic_init_u64(&usage_table->graces_begun, 0);
	pg_atomic_init_u64(&usage_table->graces_written, 0);
	pg_atomic_init_u64(&usage_table->graces_written_at, USAGE_NEVER);
	for (int i = 0; i < USAGE_MAX_PARTITIONS; i++)
		usage_table->partitions[i] = (UsagePartition) {.oldest = NONE, .newest = NONE};
	memset(buckets, 0xff, bytes_of(sizeof(int), bucket_count));	/* NONE everywhere */
}

static void
start_up(void)
{
	bool		found;

	if (next_startup_hook != NULL)
		next_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	usage_table = ShmemInitStruct(TRANCHE, sizeof(UsageTable), &found);
	entries = ShmemInitStruct(TRANCHE " entries", bytes_of(sizeof(UsageEntry), room), &found);
	buckets = ShmemInitStruct(TRANCHE " buckets", bytes_of(sizeof(int), bucket_count), &found);
	locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
		clear();
	LWLockRelease(AddinShmemInitLock);
}

/* Requests the shared memory, if keyrot is preloaded and keyrot.usage_entries is not 0. */
void
usage_table_init(void)
{
	if (!settings_preloaded() || keyrot_usage_entries == 0)
		return;
	divide();
	next_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	next_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_up;
}

/*
 * Where to look for a credential of one of keyrot's tables. This function and those below require the table of uses.
 */
UsageSought
usage_table_seek_in(Oid credentials, const char *identifier)
{
	uint64		seed = usage_table->seed ^ ((uint64) MyDatabaseId << 32 | credentials);
	uint64		hash = hash_bytes_extended((const unsigned char *) identifier, (int) strlen(identifier), seed);
	int			number = (int) (hash & (uint64) (partitions - 1));

	return (UsageSought) {
		.table = credentials,
		.hash = hash,
		.identifier = identifier,
		.partition = &usage_table->partitions[number],
		.lock = &locks[number].lock,
		.buckets = &buckets[number * bucket_count],
		.entries = &entries[number * room],
	};
}

/* The same for a credential of a kind; keyrot's tables are locked. */
UsageSought
usage_table_seek(CredentialKind kind, const char *identifier)
{
	const Tables *known = tables_get();

	return usage_table_seek_in(kind == CREDENTIAL_APP ? known->app : known->zone, identifier);
}

/* The first of the entries in the bucket of this hash. */
static int *
bucket_of(const UsageSought *sought, uint64 hash)
{
	return &sought->buckets[(hash >> 32) & (uint64) (bucket_count - 1)];
}

/* The entry, or NULL. The caller holds the lock. */
UsageEntry *
usage_table_find(const UsageSought *sought)
{
	for (int i = *bucket_of(sought, sought->hash); i != NONE; i = sought->entries[i].next)
	{
		UsageEntry *entry = &sought->entries[i];

		if (entry->hash == sought->hash && entry->table == sought->table && entry->database == MyDatabaseId &&
			strcmp(entry->identifier, sought->identifier) == 0)
			return entry;
	}
	return NULL;
}

/* Removes an entry from the order of use. The caller holds the exclusive lock, as for the functions below. */
static void
take_out(const UsageSought *sought, const UsageEntry *entry)
{
	if (entry->before == NONE)
		sought->partition->oldest = entry->after;
	else
		sought->entries[entry->before].after = entry->after;
	if (entry->after == NONE)
		sought->partition->newest = entry->before;
	else
		sought->entries[entry->after].before = entry->before;
}

/* Puts an entry at the end of that order. */
static void
put_last(const UsageSought *sought, UsageEntry *entry, TimestampTz now)
{
	UsagePartition *partition = sought->partition;
	int			number = (int) (entry - sought->entries);

	entry->ordered_at = now;
	entry->before = partition->newest;
	entry->after = NONE;
	if (partition->newest == NONE)
		partition->oldest = number;
	else
		sought->entries[partition->newest].after = number;
	partition->newest = number;
}

/* Removes the least recently used entry from its bucket and from the order, and returns it. */
static UsageEntry *
take_oldest(const UsageSought *sought)
{
	int			number = sought->partition->oldest;
	UsageEntry *oldest = &sought->entries[number];
	int		   *link = bucket_of(sought, oldest->hash);

	while (*link != number)
		link = &sought->entries[*link].next;
	*link = oldest->next;
	take_out(sought, oldest);
	return oldest;
}

/* The entry, created if there is none, and moved to the end of the order of use. */
UsageEntry *
usage_table_find_or_make(const UsageSought *sought, TimestampTz now)
{
	UsageEntry *entry = usage_table_find(sought);
	UsagePartition *partition = sought->partition;
	int		   *bucket = bucket_of(sought, sought->hash);

	if (entry != NULL)
	{
		take_out(sought, entry);
		put_last(sought, entry, now);
		return entry;
	}
	entry = partition->used < room ? &sought->entries[partition->used++] : take_oldest(sought);
	memset(entry, 0, sizeof(*entry));
	entry->database = MyDatabaseId;
	entry->table = sought->table;
	entry->hash = sought->hash;
	strlcpy(entry->identifier, sought->identifier, sizeof(entry->identifier));
	pg_atomic_init_u64(&entry->used, USAGE_NEVER);
	pg_atomic_init_u64(&entry->earlier_used, USAGE_NEVER);
	entry->next = *bucket;
	*bucket = (int) (entry - sought->entries);
	put_last(sought, entry, now);
	return entry;
}

/* How many entries are in use. */
int
usage_table_count(void)
{
	int			count = 0;

	for (int i = 0; i < partitions; i++)
		count += usage_table->partitions[i].used;
	return count;
}

/* How many partitions there are. */
int
usage_table_partitions(void)
{
	return partitions;
}

/* Locks a partition for reading, and returns its entries and their number. */
const UsageEntry *
usage_table_lock_partition(int number, int *count)
{
	LWLockAcquire(&locks[number].lock, LW_SHARED);
	*count = usage_table->partitions[number].used;
	return &entries[number * room];
}

/* Unlocks the partition. */
void
usage_table_unlock_partition(int number)
{
	LWLockRelease(&locks[number].lock);
}
